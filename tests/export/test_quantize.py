"""The quantized files: what is in them, how near they are to Flax, and what is refused."""

import jax
import numpy as np
import pytest
from conftest import NIGHTLY, tiny_architecture

from mnv3_jax.architectures import edits, zoo
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, quantize, runtime, tflite as exporting
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.tasks import agreement

KINDS = ("float16", "int8_weights", "int8", "int8_integer")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """{kind: Exported} of the small network."""
  a = tiny_architecture()
  variables, images = random_weights(a, num_images=32)
  folder = tmp_path_factory.mktemp("quantized")

  def export(kind):
    return exporting.write_tflite(
      a, variables, folder / kind, images[:8], exporting.TFLiteOptions(quantization=kind), calibration=images
    )

  return {kind: export(kind) for kind in quantize.QUANTIZATIONS}


def test_sizes_and_partitions(files):
  size = {kind: e.size for kind, e in files.items()}
  assert size["int8_weights"] < size["float16"] < size["none"]
  assert all(e.partitions == 1 for e in files.values())


@pytest.mark.parametrize("kind", ["int8_weights", "int8", "int8_integer"])
def test_weights_have_a_scale_for_each_channel(files, kind):
  operators = [op for op in graph.operators(files[kind].content) if op.type in graph.WITH_WEIGHTS]
  in_float = {"int8": ["stem", "block_01"]}.get(kind, [])
  assert [op.row for op in operators if op.weights == "FLOAT32"] == in_float
  assert all(op.scales == op.channels > 1 for op in operators if op.weights == "INT8")
  # of int8_integer the gate of the stem's h-swish too
  assert len(operators) == (15 if kind == "int8_integer" else 14)


def test_what_is_left_in_float(files):
  tensors = {kind: e.tensors for kind, e in files.items()}
  assert set(tensors["int8_integer"]) == {"INT8", "INT32"}
  assert "HARD_SWISH" not in files["int8_integer"].ops
  assert tensors["float16"]["FLOAT16"] == 14
  # dequantized: inputs of h-swish but those after the stem and the hidden layer, and the pooled map
  swishes = files["none"].ops["HARD_SWISH"]
  assert files["int8"].ops["HARD_SWISH"] == swishes and files["int8"].ops["DEQUANTIZE"] == swishes - 2 + 1


def test_fully_connected_layers_find_the_range_of_their_inputs_by_image(files):
  layers = [op for op in graph.operators(files["int8"].content) if op.type == "FULLY_CONNECTED"]
  assert len(layers) == 2 and all(op.weights == "INT8" and op.scales == op.channels for op in layers)
  tensors = {t["index"]: t for t in runtime.TFLiteModel(files["int8"].content).interpreter.get_tensor_details()}
  assert all(tensors[i]["dtype"] == np.float32 for op in layers for i in (op.output, op.inputs[0]))


def test_each_kind_keeps_what_it_should(files):
  db = {kind: e.agreement.snr_db for kind, e in files.items()}
  assert db["none"] > 90 > db["float16"] > 45 > db["int8_weights"] > 25
  assert db["int8_weights"] > db["int8"] > 15 and db["int8_integer"] > 15


def test_integers_in_and_out(files):
  network = runtime.TFLiteModel(files["int8_integer"].content)
  assert network.input["dtype"] == network.output["dtype"] == np.int8
  scale, zero = network.input["quantization"]
  x = np.random.default_rng(0).uniform(-1, 1, network.input_shape).astype(np.float32)
  by_hand = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
  np.testing.assert_array_equal(network(x), network(by_hand))
  assert network(x).dtype == np.float32


def test_ranges_of_random_weights_are_the_least_and_largest_of_all_images():
  a = tiny_architecture()
  variables, images = random_weights(a, num_images=8)
  content = exporting.convert_float(a, variables)
  network = runtime.TFLiteModel(content, transparent=True)
  stem = next(op for op in graph.operators(content) if op.type == "HARD_SWISH")
  maps = []
  for x in images:
    network(x[None])
    maps.append(network.tensor(stem.output))
  made = runtime.TFLiteModel(quantize.quantize(content, "int8", [x[None] for x in images], steps=()))
  tensors = [t for t in made.interpreter.get_tensor_details() if t["name"].startswith(stem.scope)]
  scale = max(t["quantization"][0] for t in tensors)
  np.testing.assert_allclose(scale * 255, np.max(maps) - np.min(maps), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  "edit",
  [
    lambda a: edits.h_swish_as(a, "relu6"),
    lambda a: edits.h_swish_as(a, "swish"),
    lambda a: edits.with_se(a, gate="sigmoid"),
    lambda a: a.replace(resolution=23, padding="symmetric"),
  ],
  ids=["relu6", "swish", "sigmoid", "symmetric"],
)
def test_edited_networks_too(edit, tmp_path):
  a = edit(tiny_architecture())
  variables, images = random_weights(a, num_images=16)
  for kind in ("int8", "int8_integer"):
    exported = exporting.write_tflite(
      a, variables, tmp_path / kind, images[:4], exporting.TFLiteOptions(quantization=kind), calibration=images
    )
    assert exported.agreement.snr_db > 12
    assert kind == "int8" or set(exported.tensors) == {"INT8", "INT32"}


def test_pixels_and_int8(tmp_path):
  from mnv3_jax.data.transforms.preprocessing import Preprocessing

  a = tiny_architecture()
  variables, images = random_weights(a, num_images=16)
  view = Preprocessing()
  exported = exporting.write_tflite(
    a,
    variables,
    tmp_path / "m",
    images[:4],
    exporting.TFLiteOptions(quantization="int8", preprocessing=view),
    calibration=images,
  )
  network = runtime.TFLiteModel(exported.content)
  assert network.input["dtype"] == np.uint8 and exported.agreement.snr_db > 15
  with pytest.raises(UsageError, match="invalid preprocess='in_graph' for quantize='int8_integer'"):
    exporting.write_tflite(
      a,
      variables,
      tmp_path / "n",
      images[:4],
      exporting.TFLiteOptions(quantization="int8_integer", preprocessing=view),
      calibration=images,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_a_file_that_departs_is_not_written_and_the_row_named(kind, tmp_path, monkeypatch):
  a = tiny_architecture()
  variables, images = random_weights(a, num_images=8)
  wrong = {**variables, "params": {**variables["params"], "backbone": dict(variables["params"]["backbone"])}}
  wrong["params"]["backbone"]["block_03"] = jax.tree.map(lambda x: -x, variables["params"]["backbone"]["block_03"])
  convert = exporting.convert_float
  monkeypatch.setattr(exporting, "convert_float", lambda a, _, *how: convert(a, wrong, *how))
  with pytest.raises(FatalError, match=rf"less than the \d+ dB required of quantize='{kind}'; block_03 departs first"):
    exporting.write_tflite(a, variables, tmp_path / "m", images, exporting.TFLiteOptions(quantization=kind), calibration=images)
  assert not list(tmp_path.iterdir())


def test_one_scale_for_all_channels_is_refused(files, monkeypatch):
  operators = graph.operators(files["int8"].content)
  broken = [op if op.row != "block_02" else graph.dataclasses.replace(op, scales=1) for op in operators]
  monkeypatch.setattr(quantize.graph, "operators", lambda content: broken)
  with pytest.raises(FatalError, match=r"block_02 \(CONV_2D\) have 1 scales for 24 channels"):
    quantize._check_per_channel(files["int8"].content, "int8")


def test_wrong_use():
  with pytest.raises(UsageError, match="did you mean 'int8'"):
    quantize.quantize(b"", "int9")
  with pytest.raises(UsageError, match="needs images"):
    quantize.quantize(b"", "int8")


def test_signal_over_noise():
  x = np.array([3.0, 4.0])
  assert agreement.snr(x, x) == 200
  assert agreement.snr(x, 1.1 * x) == pytest.approx(20)
  assert np.isnan(agreement.snr(x, x * np.nan))


def test_a_few_clipped_images_refuse_no_file():
  expected = np.random.default_rng(0).normal(size=(50, 10))
  expected[:2] *= 100
  clipped = expected.clip(-5, 5) * 1.03
  found = agreement.compare(expected, clipped)
  assert found.snr_db is not None and found.snr_db < 2 and found.median_db == pytest.approx(30.5, abs=0.1)
  assert not found.failure("int8", trained=True) and "ratio 0 dB (median of the images 30 dB)" in found.text()
  assert found.failure("float16", trained=True)
  # a wrong layer is wrong on all images
  assert agreement.compare(expected, expected[:, ::-1]).failure("int8", trained=True)
  clipped[0, 0] = np.nan
  assert agreement.compare(expected, clipped).failure("int8", trained=True)


@pytest.mark.slow
@pytest.mark.parametrize(
  "model",
  ["mobilenetv3_large", *(pytest.param(name, marks=NIGHTLY) for name in sorted(zoo.MODELS) if name != "mobilenetv3_large")],
)
def test_the_whole_family(model, tmp_path):
  a = zoo.MODELS[model]().replace(resolution=96)
  variables, images = random_weights(a, num_images=32)
  for kind in quantize.QUANTIZATIONS:
    exported = exporting.write_tflite(
      a, variables, tmp_path / kind, images[:8], exporting.TFLiteOptions(quantization=kind, trained=False), calibration=images
    )
    assert exported.partitions == 1
