"""config.model, field by field."""

import pytest

from mnv3_jax.architectures import edits, fields, widths, zoo
from mnv3_jax.architectures.spec import ArchitectureError

# another value than the paper's, for every field that is part of the network
OTHER = {
  "num_classes": 10,
  "resolution": 160,
  "resolution_width": 320,
  "width": 0.75,
  "h_swish_from": 112,
  "activation": "relu",
  "se_ratio": 0.5,
  "se_of": "input",
  "se_gate": "sigmoid",
  "se_divisor": 1,
  "expansions": "block_02=48",
  "channels": "block_02=48/24",
  "blocks": "k3_o16_s1_re,k3_x6_o24_s2_re_se0.25",
  "stem_filters": 32,
  "stem_activation": "relu",
  "last_stage": "original",
  "output_stride": 16,
  "halved_tail": "detection",
  "minimalistic": True,
  "dropout": 0.5,
  "bn_momentum": 0.9,
  "bn_epsilon": 1e-5,
  "padding": "symmetric",
  "head": "lr_aspp",
  "head_hidden": 0,
}
# likewise where there is a segmenter
OF_SEGMENTER = {
  "atrous": "torchvision",
  "head": "r_aspp",
  "head_filters": 256,
  "head_pool": "global",
  "head_gate": "hard_sigmoid",
  "head_gate_bias": False,
  "head_skip": "block",
}
# likewise where there is a detector
OF_DETECTOR = {"head_convention": "torchvision", "head_class_bias": -4.6}


@pytest.mark.parametrize(("field", "value"), OTHER.items())
def test_every_field_changes_the_network(field, value):
  base = zoo.mobilenetv3_large()
  assert fields.architecture("mobilenetv3_large", **{field: None}) == base
  assert fields.architecture("mobilenetv3_large", **{field: value}) != base


@pytest.mark.parametrize(("field", "value"), OF_SEGMENTER.items())
def test_every_field_changes_the_segmenter(field, value):
  usual = {"head": "lr_aspp", "output_stride": 16}
  base = fields.architecture("mobilenetv3_large", **usual)
  assert fields.architecture("mobilenetv3_large", **{**usual, field: value}) != base


@pytest.mark.parametrize(("field", "value"), OF_DETECTOR.items())
def test_every_field_changes_the_detector(field, value):
  base = fields.architecture("mobilenetv3_large", head="ssdlite")
  assert fields.architecture("mobilenetv3_large", **{"head": "ssdlite", field: value}) != base


def test_no_field_is_forgotten():
  known = set(OTHER) | set(OF_SEGMENTER) | set(OF_DETECTOR)
  assert known | {"width_rule"} | set(fields.COMPUTE_FIELDS) == set(fields.FIELDS)
  models = ("mobilenetv3_small", "mnasnet_a1")
  rules = [tuple(fields.architecture(m, width=0.35, width_rule=r) for m in models) for r in widths.RULES]
  assert len(set(rules)) == len(rules)


def test_width_is_last():
  both = fields.architecture("mobilenetv3_large", width=0.5, h_swish_from=112, stem_filters=32)
  assert both == edits.with_width(edits.h_swish_from(edits.with_stem(zoo.mobilenetv3_large(), 32), 112), 0.5)


@pytest.mark.parametrize(
  ("name", "given", "words"),
  [
    ("mobilenetv3_larg", {}, "did you mean 'mobilenetv3_large'"),
    ("mobilenetv3_large", {"widht": 0.5}, "did you mean 'width'"),
    ("mobilenetv3_large", {"width": "0.5"}, "a number"),
    ("mobilenetv3_large", {"resolution": 0}, "resolution=0"),
    ("mobilenetv3_large", {"resolution": 22.5}, "a whole number"),
    ("mobilenetv3_large", {"se_of": "output"}, "input"),
    ("mobilenetv3_large", {"minimalistic": 1}, "True or False"),
    ("mobilenetv3_large", {"minimalistic": True, "se_ratio": 0.25}, "none to change"),
    ("mobilenetv3_large", {"bn_group": -2}, "0 or more"),
    ("mobilenetv3_large", {"expansions": "block_02"}, "expected BLOCK=CHANNELS, got 'block_02'"),
    ("mobilenetv3_large", {"expansions": "blok_02=8"}, "did you mean 'block_02'"),
    ("mobilenetv2", {"activation": "relu"}, "no h-swish"),
    ("mobilenetv2", {"se_ratio": 0.0}, "none to change"),
    ("mobilenetv3_large", {"se_ratio": 0.0, "se_gate": "sigmoid"}, "nothing else of it"),
    ("mobilenetv3_large", {"dtype": "float16"}, "bfloat16"),
    ("mobilenetv3_large", {"head_hidden": -4}, "head_hidden=-4; expected a whole number of at least 0"),
  ],
)
def test_what_cannot_be_is_named(name, given, words):
  with pytest.raises(ArchitectureError) as error:
    fields.architecture(name, **given)
  assert words in str(error.value)


def test_relu_everywhere_in_every_model():
  for model in zoo.MODELS:
    a = fields.architecture(model, h_swish_from=0)
    assert {a.stem.activation, a.head.activation, *(b.activation for b in a.blocks)} == {"relu"}
    assert a == edits.h_swish_from(zoo.MODELS[model](), None)


@pytest.mark.parametrize("model", zoo.MODELS)
@pytest.mark.parametrize("field", [f for f in fields.FIELDS if f not in fields.COMPUTE_FIELDS])
def test_a_field_without_effect_says_so(model, field):
  """Each field changes the network by one of its values, has an error, or is declared to need another field."""
  usual = {int: [8, 40], float: [0.3, 0.7], bool: [True, False], str: ["block_02=40"]}
  values = fields.FIELDS[field].choices or usual[fields.FIELDS[field].type]
  networks, errors = set(), 0
  for value in (None, *values):
    try:
      networks.add(fields.architecture(model, **{field: value}))
    except ArchitectureError:
      errors += 1
  as_it_is = field == "minimalistic" and model.endswith("minimalistic")
  assert len(networks) > 1 or errors or field in fields.ONLY_WITH or as_it_is


def test_channels_come_after_the_width():
  """A network that a search found is its seed, with the channels of every block."""
  seed = fields.architecture("mobilenetv3_large", width=0.75, head="lr_aspp", head_filters=32)
  found = edits.with_channels(seed, {"block_05": (64, 32), "block_04": (56, 32), "block_06": (88, 32)})
  text = fields.channels_text(found)
  assert text.startswith("block_01=16/16,block_02=")
  again = fields.architecture("mobilenetv3_large", width=0.75, head="lr_aspp", head_filters=32, channels=text)
  assert again == found != seed and fields.with_channels_text(seed, text) == found


@pytest.mark.parametrize("text", ["block_02", "block_02=48", "block_02=48/x", "block_02=/24", "block_02=0/24"])
def test_invalid_channels(text):
  with pytest.raises(ArchitectureError, match=r"invalid channels=.*expected BLOCK=EXPANSION/OUTPUT|invalid expand=0"):
    fields.architecture("mobilenetv3_large", channels=text)
