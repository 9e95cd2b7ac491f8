"""The .tflite files: what is in them, that they agree with Flax, that they are refused when they do not."""

import jax
import numpy as np
import pytest
from conftest import tiny_architecture

from mnv3_jax.architectures import edits, zoo
from mnv3_jax.errors import StoppedForGood, WrongUse
from mnv3_jax.mobile import export as exporting, runtime

OPS = {
  "mobilenetv3_large": {
    "CONV_2D": 47,
    "DEPTHWISE_CONV_2D": 15,
    "HARD_SWISH": 21,
    "MUL": 16,
    "ADD": 10,
    "MEAN": 9,
    "FULLY_CONNECTED": 2,
  },
  "mobilenetv3_small": {
    "CONV_2D": 41,
    "DEPTHWISE_CONV_2D": 11,
    "HARD_SWISH": 19,
    "MUL": 18,
    "ADD": 6,
    "MEAN": 10,
    "FULLY_CONNECTED": 2,
  },
}


@pytest.mark.parametrize("model", sorted(OPS))
def test_the_graph_is_clean_and_agrees_with_flax(model, tmp_path):
  a = zoo.MODELS[model]()
  variables, images = exporting.seeded(a)
  exported = exporting.export(a, variables, tmp_path / "m.tflite", images)
  assert exported.ops == OPS[model] and exported.partitions == 1
  assert exported.max_difference <= 1e-4 and exported.top1_agreement == 1
  # a check on logits that are all zero would check nothing
  assert exported.largest_logit > 0.5
  assert exported.size == (tmp_path / "m.tflite").stat().st_size


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory):
  """(architecture, variables, images, path of the file)."""
  a = tiny_architecture()
  variables, images = exporting.seeded(a)
  path = tmp_path_factory.mktemp("export") / "tiny.tflite"
  exporting.export(a, variables, path, images)
  return a, variables, images, path


@pytest.mark.parametrize(
  "edit",
  [
    lambda a: a.replace(padding="symmetric"),
    lambda a: a.replace(resolution=23),
    lambda a: edits.with_width(zoo.mobilenetv3_small(), 0.35).replace(resolution=32),
    lambda a: edits.h_swish_as(a, "swish"),
    lambda a: edits.h_swish_as(a, "relu6"),
    lambda a: edits.with_se(a, gate="sigmoid"),
    lambda a: edits.with_output_stride(a.replace(resolution=32), 8),
  ],
  ids=["symmetric", "odd size", "1x1 maps", "swish", "relu6", "sigmoid", "atrous"],
)
def test_edited_networks_agree_too(edit, tmp_path):
  a = edit(tiny_architecture())
  exported = exporting.export(a, *exporting.seeded(a)[:1], tmp_path / "m.tflite", exporting.seeded(a)[1])
  assert exported.partitions == 1 or a.padding == "symmetric"
  assert exported.max_difference <= 1e-4 * max(exported.largest_logit, 1)


def test_a_file_that_does_not_agree_is_not_written(tiny_export, tmp_path, monkeypatch):
  a, variables, images, _ = tiny_export
  wrong = jax.tree.map(lambda x: x * 1.01, variables)
  monkeypatch.setattr(exporting.inference, "logits", lambda model, _, x: np.asarray(model.apply(wrong, x)))
  (tmp_path / "m.tflite").write_text("an earlier file")
  with pytest.raises(StoppedForGood, match="is not written: its logits differ"):
    exporting.export(a, variables, tmp_path / "m.tflite", images)
  assert [p.read_text() for p in tmp_path.iterdir()] == ["an earlier file"]


def test_nan_does_not_agree(tiny_export, tmp_path):
  a, variables, images, _ = tiny_export
  broken = jax.tree.map(lambda x: x * np.float32(np.nan), variables)
  with pytest.raises(StoppedForGood):
    exporting.export(a, broken, tmp_path / "m.tflite", images)


def test_files_that_are_none_are_named(tiny_export, tmp_path):
  (tmp_path / "text").write_text("no network at all")
  (tmp_path / "cut.tflite").write_bytes(tiny_export[3].read_bytes()[:2000])
  with pytest.raises(WrongUse, match="no file"):
    runtime.read(tmp_path / "none.tflite")
  with pytest.raises(WrongUse, match=r"not a \.tflite file"):
    runtime.read(tmp_path / "text")
  with pytest.raises(WrongUse, match=r"cut\.tflite cannot be loaded"):
    runtime.Network(runtime.read(tmp_path / "cut.tflite"), name="cut.tflite")


def test_seeded_weights_are_the_same_every_time(tiny_export):
  a, variables, images, _ = tiny_export
  again, same_images = exporting.seeded(a)
  jax.tree.map(np.testing.assert_array_equal, variables, again)
  assert np.array_equal(images, same_images)
  statistics = jax.tree.leaves(variables["batch_stats"])
  assert all(s.std() > 0 for s in statistics)
