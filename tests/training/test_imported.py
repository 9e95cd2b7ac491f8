"""Import of weights: those that mean nothing are refused, and so are files of class names that are none."""

import json
import pathlib
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import mnv3_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.weights import formats, sources

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "weights"))
import seeds

SOURCE, MODEL = "timm", "mobilenetv3_small_050"
LOGITS = ("classifier.weight", "classifier.bias")


def with_classes(tensors, n):
  """The weights with fewer classes."""
  return {k: np.ascontiguousarray(a[:n]) if k in LOGITS else a for k, a in tensors.items()}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
  """Seeded weights of three classes, in a file without a suffix."""
  file = tmp_path_factory.mktemp("weights") / "three"
  save_file(with_classes(seeds.tensors(sources.published(SOURCE, MODEL)), 3), file)
  return file


def test_weights_that_mean_nothing_change_nothing(three, tmp_path):
  file, out = tmp_path / "w.safetensors", tmp_path / "out"
  tensors = formats.read(three)
  save_file(with_classes(tensors, 1), file)
  with pytest.raises(UsageError, match="weights with one logit; expected at least 2"):
    mnv3_jax.import_weights(SOURCE, MODEL, file, out)
  tensors["bn1.running_mean"][3] = np.nan
  save_file({f"module._orig_mod.{name}": a for name, a in tensors.items()}, file)
  with pytest.raises(UsageError, match=r"not finite: bn1.running_mean \(1 of 16 values, NaN\)"):
    mnv3_jax.import_weights(SOURCE, MODEL, file, out)
  assert list(tmp_path.iterdir()) == [file]


def test_an_earlier_import_of_one_logit_is_refused(three, tmp_path):
  mnv3_jax.import_weights(SOURCE, MODEL, three, tmp_path / "out")
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  config["model"]["num_classes"] = 1
  (tmp_path / "out" / "config.json").write_text(json.dumps(config))
  with pytest.raises(UsageError, match=r"config.model.num_classes=1; expected at least 2 classes"):
    mnv3_jax.load(tmp_path / "out")


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (b"", "names no class"),
    (b"\n \n", "names no class"),
    (b"cat\ncat\nbird\n", "names the class 'cat' twice"),
    (b"cat\ndog\n", "with 2 names; expected 3"),
    (b"cat,dog,bird\n", "with 1 name; expected 3, the number of classes of the weights; one name per line"),
    (b'["cat", "dog", "bird"]', "is JSON; classes=FILE takes a text file with one class name per line"),
    ("Bär\nHund\nVogel\n".encode("latin-1"), r"is not text in UTF-8 \(line 1\)"),
    ("cat\ndog\nbird\n".encode("utf-16-le"), r"is not text in UTF-8 \(zero bytes\)"),
    (b"\x89PNG\r\n\x1a\n\0\0", "is not text in UTF-8"),
    (b"cat\n\x1b[31mdog\nbird\n", "which is no name of a class"),
  ],
)
def test_files_of_class_names_that_are_refused(content, words, three, tmp_path):
  (tmp_path / "names.txt").write_bytes(content)
  with pytest.raises(UsageError, match=words):
    mnv3_jax.import_weights(SOURCE, MODEL, three, tmp_path / "out", classes=tmp_path / "names.txt")
  assert [p.name for p in tmp_path.iterdir()] == ["names.txt"]


def test_class_names_in_utf16(three, tmp_path):
  (tmp_path / "names.txt").write_text("Bär\r\nHund\r\nVogel\r\n", encoding="utf-16")
  mnv3_jax.import_weights(SOURCE, MODEL, three, tmp_path / "out", classes=tmp_path / "names.txt")
  assert mnv3_jax.load(tmp_path / "out").classes == ("Bär", "Hund", "Vogel")
