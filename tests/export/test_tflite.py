"""The .tflite files: what is in them, that they agree with Flax, that they are refused when they do not."""

import jax
import numpy as np
import pytest
from conftest import tiny_architecture

from mnv3_jax.architectures import edits, zoo
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, runtime, tflite as exporting
from mnv3_jax.export.random_weights import random_weights

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
  "mobilenetv4_conv_small": {"CONV_2D": 30, "DEPTHWISE_CONV_2D": 15, "ADD": 10, "MEAN": 1, "FULLY_CONNECTED": 2},
}


@pytest.mark.parametrize("model", sorted(OPS))
def test_the_graph_is_clean_and_agrees_with_flax(model, tmp_path):
  a = zoo.MODELS[model]()
  variables, images = random_weights(a)
  exported = exporting.write_tflite(a, variables, tmp_path / "m.tflite", images)
  assert exported.ops == OPS[model] and exported.partitions == 1
  assert exported.agreement.max_difference <= 1e-4 and exported.agreement.top1_agreement == 1
  # a check on logits that are all zero would check nothing
  assert exported.agreement.largest_logit > 0.5
  assert exported.size == (tmp_path / "m.tflite").stat().st_size


@pytest.fixture(scope="module")
def tiny_export(tmp_path_factory):
  """(architecture, variables, images, path of the file)."""
  a = tiny_architecture()
  variables, images = random_weights(a)
  path = tmp_path_factory.mktemp("export") / "tiny.tflite"
  exporting.write_tflite(a, variables, path, images)
  return a, variables, images, path


@pytest.mark.slow
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
  exported = exporting.write_tflite(a, *random_weights(a)[:1], tmp_path / "m.tflite", random_weights(a)[1])
  assert exported.partitions == 1 or a.padding == "symmetric"
  assert exported.agreement.max_difference <= 1e-4 * max(exported.agreement.largest_logit, 1)


def test_a_file_that_does_not_agree_is_not_written(tiny_export, tmp_path, monkeypatch):
  a, variables, images, _ = tiny_export
  wrong = {**variables, "params": {**variables["params"], "backbone": dict(variables["params"]["backbone"])}}
  wrong["params"]["backbone"]["block_02"] = jax.tree.map(lambda x: x * 1.1, variables["params"]["backbone"]["block_02"])
  convert = exporting.convert_float
  monkeypatch.setattr(exporting, "convert_float", lambda a, _, *how: convert(a, wrong, *how))
  (tmp_path / "m.tflite").write_text("an earlier file")
  with pytest.raises(FatalError, match=r"is not written: its logits differ .*; block_02 departs first"):
    exporting.write_tflite(a, variables, tmp_path / "m.tflite", images)
  assert [p.read_text() for p in tmp_path.iterdir()] == ["an earlier file"]


def test_pixels_go_in_as_they_are(tiny_export, tmp_path):
  a, variables, images, plain = tiny_export
  view = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
  exported = exporting.write_tflite(a, variables, tmp_path / "m.tflite", images, exporting.TFLiteOptions(preprocessing=view))
  network = runtime.TFLiteModel(exported.content)
  assert network.input["dtype"] == np.uint8 and network.partitions == 1
  pixels = np.random.default_rng(0).integers(0, 256, network.input_shape, dtype=np.uint8)
  outside = runtime.TFLiteModel(runtime.read_file(plain))(view.normalize(pixels))
  np.testing.assert_allclose(network(pixels), outside, atol=1e-4)
  assert exported.note["input"] == {"shape": [1, 16, 16, 3], "type": "uint8", "meaning": "pixels from 0 to 255"}


def test_the_note_is_in_the_file(tiny_export, tmp_path):
  a, variables, images, _ = tiny_export
  exported = exporting.write_tflite(a, variables, tmp_path / "m.tflite", images, note={"classes": ["Schnürschuh", "coat"]})
  said = graph.note((tmp_path / "m.tflite").read_bytes())
  assert said == exported.note and said["classes"] == ["Schnürschuh", "coat"]
  assert graph.note(exported.float_content) is None


def test_rows_of_operators(tiny_export):
  operators = graph.operators(tiny_export[3].read_bytes())
  rows = list(dict.fromkeys(op.row for op in operators))
  assert rows == ["stem", "block_01", "block_02", "block_03", "features", "pool", "hidden", "logits"]
  assert [op.type for op in operators if op.row == "stem"] == ["CONV_2D", "HARD_SWISH"]
  assert [op.channels for op in operators if op.type == "DEPTHWISE_CONV_2D"] == [8, 24, 32]


def test_h_swish_in_parts(tiny_export, tmp_path):
  a, variables, images, _ = tiny_export
  exported = exporting.write_tflite(a, variables, tmp_path / "m.tflite", images, exporting.TFLiteOptions(fused=False))
  assert "HARD_SWISH" not in exported.ops and exported.partitions == 1
  assert exported.agreement.max_difference <= 1e-4


def test_nan_does_not_agree(tiny_export, tmp_path):
  a, variables, images, _ = tiny_export
  broken = jax.tree.map(lambda x: x * np.float32(np.nan), variables)
  with pytest.raises(FatalError):
    exporting.write_tflite(a, broken, tmp_path / "m.tflite", images)


def test_files_that_are_none_are_named(tiny_export, tmp_path):
  (tmp_path / "text").write_text("no network at all")
  (tmp_path / "cut.tflite").write_bytes(tiny_export[3].read_bytes()[:2000])
  with pytest.raises(UsageError, match="no file"):
    runtime.read_file(tmp_path / "none.tflite")
  with pytest.raises(UsageError, match=r"not a \.tflite file"):
    runtime.read_file(tmp_path / "text")
  with pytest.raises(UsageError, match=r"cut\.tflite cannot be loaded"):
    runtime.TFLiteModel(runtime.read_file(tmp_path / "cut.tflite"), name="cut.tflite")


def test_seeded_weights_are_the_same_every_time(tiny_export):
  a, variables, images, _ = tiny_export
  again, same_images = random_weights(a)
  jax.tree.map(np.testing.assert_array_equal, variables, again)
  assert np.array_equal(images, same_images)
  statistics = jax.tree.leaves(variables["batch_stats"])
  assert all(s.std() > 0 for s in statistics)
