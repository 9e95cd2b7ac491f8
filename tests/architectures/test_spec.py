"""The value: the paper's rows, and what cannot be a row."""

import dataclasses
import json

import pytest
from conftest import ROOT, tiny_architecture

from mnv3_jax.architectures import printing, zoo
from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import ArchitectureError, Block, Features, SqueezeExcite, Stem

TABLES = json.loads((ROOT / "tests" / "paper_tables.json").read_text())


@pytest.mark.parametrize(
  ("model", "table"), [("mobilenetv3_large", "table1_v3_large"), ("mobilenetv3_small", "table2_v3_small")]
)
def test_rows_are_those_of_the_paper(model, table):
  a = zoo.MODELS[model]()
  stem, *blocks, features, pool, hidden, logits = TABLES[table]["rows"]
  size = a.resolution
  for (name, channels, b), row in zip(a.rows(), blocks, strict=True):
    size = -(-size // (a.stem.stride if name == "block_01" else a.blocks[int(name[-2:]) - 2].stride))
    se = None if b.se is None else b.se.channels(channels, b.expand)
    ours = [
      f"{size}x{size}x{channels}",
      "bneck",
      b.kernel,
      b.expand,
      b.out,
      b.se is not None,
      se,
      printing.NL[b.activation],
      b.stride,
    ]
    assert ours == row, name
  assert stem[2:5] == [a.stem.kernel, None, a.stem.filters] and stem[7:] == [printing.NL[a.stem.activation], a.stem.stride]
  assert (features[4], features[7]) == (a.features.filters, printing.NL[a.features.activation])
  assert (hidden[4], hidden[7]) == (a.head.hidden, printing.NL[a.head.activation])
  assert pool[4] == a.features.filters
  assert logits[4] == "k"


GOOD = {"kernel": 3, "expand": 24, "out": 16, "activation": "relu", "stride": 1}


@pytest.mark.parametrize(
  ("field", "value", "allowed"),
  [
    ("activation", "hard_swich", "did you mean 'hard_swish'"),
    ("activation", "linear", "choose one of"),
    ("kernel", 4, "odd"),
    ("kernel", 0, "at least 1"),
    ("expand", 0, "at least 1"),
    ("expand", 24.0, "whole number"),
    ("out", -8, "at least 1"),
    ("out", True, "whole number"),
    ("stride", 3, "choose one of 1, 2"),
    ("dilation", 0, "at least 1"),
    ("se", 0.25, "a SqueezeExcite or None"),
    ("se", SqueezeExcite(ratio=0.0), "0.001 <= se ratio"),
    ("se", SqueezeExcite(of="expanse"), "did you mean 'expansion'"),
    ("se", SqueezeExcite(gate="softsign"), "sigmoid"),
    ("se", SqueezeExcite(divisor=0), "at least 1"),
    ("residual", 1, "True or False"),
    ("project_activation", "none", "linear"),
  ],
)
def test_an_impossible_row_names_itself(field, value, allowed):
  tiny = tiny_architecture()
  bad = Block(**{**GOOD, field: value})
  with pytest.raises(ArchitectureError) as error:
    tiny.replace(blocks=(tiny.blocks[0], bad, tiny.blocks[2]))
  sentence = str(error.value)
  inner = value if not isinstance(value, SqueezeExcite) else ""
  assert "tiny, block_02 of 3" in sentence and field.split("_")[0] in sentence and allowed in sentence
  assert str(inner) in sentence and "\n" not in sentence


def test_stride_and_dilation_together_are_refused(tiny):
  with pytest.raises(ArchitectureError, match=r"block_02 of 3: invalid dilation=2; .* where the stride is 2"):
    tiny.replace(blocks=(tiny.blocks[0], dataclasses.replace(tiny.blocks[1], dilation=2)) + (tiny.blocks[2],) * 1)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"stem": Stem(filters=0, activation="relu")}, ("stem", "filters=0")),
    ({"stem": Stem(filters=8, activation="relu", stride=4)}, ("stem", "stride=4")),
    ({"head": ClassifierHead(hidden=0)}, ("head", "hidden=0")),
    ({"head": ClassifierHead(hidden=8, dropout=1.0)}, ("head", "dropout=1.0")),
    ({"head": None}, ("head=None", "ClassifierHead")),
    ({"features": Features(filters=0, activation="relu")}, ("features", "filters=0")),
    ({"blocks": ()}, ("blocks",)),
    ({"blocks": []}, ("blocks",)),
    ({"resolution": 0}, ("resolution=0",)),
    ({"num_classes": 1.5}, ("num_classes=1.5",)),
    ({"padding": "valid"}, ("padding='valid'", "same, symmetric")),
    ({"bn_momentum": 1.0}, ("bn_momentum=1.0",)),
    ({"bn_epsilon": 0.0}, ("bn_epsilon=0.0",)),
  ],
)
def test_impossible_fields_name_themselves(tiny, change, words):
  with pytest.raises(ArchitectureError) as error:
    tiny.replace(**change)
  assert all(word in str(error.value) for word in ("tiny", *words))


def test_an_architecture_is_a_value(tiny):
  assert tiny == tiny_architecture() and hash(tiny) == hash(tiny_architecture())
  assert tiny != tiny.replace(num_classes=11)
  with pytest.raises(dataclasses.FrozenInstanceError):
    tiny.resolution = 32


def test_it_prints_as_the_paper_does():
  lines = str(zoo.mobilenetv3_large()).splitlines()
  assert len(lines) == 21
  assert lines[5].split() == ["56²×24", "bneck", "5×5", "72", "40", "24", "RE", "2"]
  assert lines[-1].split() == ["1²×1280", "conv2d", "1×1,", "NBN", "-", "1000", "-", "-", "1"]
