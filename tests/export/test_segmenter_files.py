"""The .tflite files of segmenters: one partition without detours, the same classes as Flax, 8 bits, and the argmax inside."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import tiny_architecture

from mnv3_jax.architectures import cost, edits, fields, sizes
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, portable, quantize, runtime, tflite as exporting
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.models import inference
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network
from mnv3_jax.tasks import agreement
from mnv3_jax.tasks.job import task_class

# what a network is made of; everything else is a detour
OPERATORS = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "MEAN", "AVERAGE_POOL_2D", "RESIZE_BILINEAR", "CONCATENATION"}
OPERATORS |= {"HARD_SWISH", "LOGISTIC"}
NETWORKS = ("mobilenetv3_large", "mobilenetv3_small", "mobilenetv2")


def segmenter(name, head="lr_aspp", pool="paper", size=(512, 1024), stride=16):
  """A whole network of the paper's as a segmenter."""
  more = {"halved_tail": "segmentation", "num_classes": 7, "resolution": size[0], "resolution_width": size[1]}
  return fields.architecture(name, head=head, head_pool=pool, output_stride=stride, **more)


def little(head="lr_aspp", pool="paper", size=(64, 96), classes=7, padding="same", **more):
  """Five blocks that have what a segmenter needs: a map at stride 8, an atrous block, squeeze-excite before and after."""
  tiny = tiny_architecture()
  first, second, third = tiny.blocks
  blocks = (
    dataclasses.replace(first, stride=2),
    second,
    third,
    dataclasses.replace(third, stride=2, out=24),
    dataclasses.replace(second, expand=48, out=24, stride=1, dilation=2),
  )
  a = tiny.replace(blocks=blocks, resolution=sizes.from_sides(*size), num_classes=classes, padding=padding)
  return edits.with_head(a, head, filters=16, pool=pool, **more)


def counted(a):
  """How many operators of a kind there have to be, from the architecture alone."""
  layers, s = cost.layers(a), a.head
  stride = a.stem.stride * np.prod([b.stride for b in a.blocks])
  size = sizes.sides(sizes.divided(a.resolution, int(stride)))
  pooled, se = sizes.sides(s.pooled(size)), sum(b.se is not None for b in a.blocks)
  whole = s.window(size)[0] == size
  gates = se + (s.name == "lr_aspp")
  depthwise = sum(layer.kind == "depthwise" for layer in layers)
  scaled_gate = pooled != ((1, 1) if s.name == "lr_aspp" else size)
  found = {
    "DEPTHWISE_CONV_2D": depthwise,
    "CONV_2D": len(layers) - depthwise,
    "MEAN": se + whole,
    "AVERAGE_POOL_2D": int(not whole),
    "RESIZE_BILINEAR": 1 + scaled_gate + (s.name == "lr_aspp"),
    "LOGISTIC": int(s.name == "lr_aspp"),
    "CONCATENATION": int(s.name == "r_aspp"),
    "ADD": sum(b.adds_input(channels) for _, channels, b in a.rows()) + (s.name == "lr_aspp"),
  }
  return {kind: n for kind, n in found.items() if n}, gates


def check_graph(a):
  """One partition, no detour, nothing twice."""
  model = network(a, exporting.PLAIN)
  content = exporting.convert_float(a, initialize(model, 0))
  file = runtime.TFLiteModel(content)
  assert (file.partitions, file.outside) == (1, {})
  assert file.ops.keys() <= OPERATORS
  expected, gates = counted(a)
  assert {kind: n for kind, n in file.ops.items() if kind not in ("HARD_SWISH", "MUL")} == expected
  # a gate is a product, and h-sigmoid's sixth is one too
  se = sum(b.se is not None for b in a.blocks)
  assert file.ops.get("MUL", 0) == gates + se
  assert file.output_shape == (1, *sizes.sides(a.resolution), a.num_classes)


@pytest.mark.parametrize(
  ("name", "head", "pool", "size", "stride"),
  [
    ("mobilenetv3_small", "lr_aspp", "release", (512, 1024), 16),
    ("mobilenetv2", "r_aspp", "paper", (512, 1024), 32),
  ],
)
def test_the_graph_has_no_detours(name, head, pool, size, stride):
  check_graph(segmenter(name, head, pool, size, stride))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["lr_aspp", "r_aspp"])
@pytest.mark.parametrize(("name", "size"), [*((name, (128, 128)) for name in NETWORKS), (NETWORKS[0], (1024, 2048))])
def test_no_graph_has_detours(name, head, size):
  for pool, stride in (("paper", 16), ("release", 32), ("global", 16)):
    check_graph(segmenter(name, head, pool, size, stride))


# windows of the release's pool within a map of 4x32
WIDE = {"pool": "release", "size": (64, 512)}


@pytest.mark.parametrize(
  "a",
  [
    pytest.param(little(), marks=pytest.mark.slow),
    little(**WIDE),
    pytest.param(little(head="r_aspp", **WIDE), marks=pytest.mark.slow),
    little(gate="hard_sigmoid", gate_bias=False, skip="block", size=(67, 45), padding="symmetric"),
    pytest.param(segmenter("mobilenetv2", "r_aspp", "paper", (64, 96)), marks=pytest.mark.slow),
    pytest.param(segmenter("mobilenetv3_large", "lr_aspp", "release", (64, 512), 32), marks=pytest.mark.slow),
  ],
  ids=["global", "windows", "r_aspp", "other variants", "V2", "V3-Large"],
)
def test_logits_are_those_of_flax(a, tmp_path):
  variables, images = random_weights(a)
  exported = exporting.write_tflite(a, variables, tmp_path / "m.tflite", images, exporting.TFLiteOptions(trained=False))
  assert exported.partitions == 1 or a.padding == "symmetric"
  assert exported.agreement.top1_agreement > 0.9999
  assert exported.agreement.max_difference <= 1e-4 * max(exported.agreement.largest_logit, 1)
  assert exported.agreement.largest_logit > 0.2
  size = list(sizes.sides(a.resolution))
  assert exported.note["input"]["shape"] == [1, *size, 3]
  assert exported.note["output"] == {"shape": [1, *size, 7], "type": "float32", "meaning": "logits of every pixel"}


@pytest.fixture(scope="module")
def wide():
  """(architecture, variables, 8 images, Flax's logits) of a network that pools over windows."""
  a = little(**WIDE)
  variables, images = random_weights(a, num_images=8)
  return a, variables, images, inference.outputs(network(a), variables, images)


def test_the_argmax_inside(wide, tmp_path):
  a, variables, images, expected = wide
  heard = []
  exported = exporting.write_tflite(
    a,
    variables,
    tmp_path / "m.tflite",
    images[:4],
    exporting.TFLiteOptions(task_options={"argmax": True}, trained=False),
    on_batch=lambda *batch: heard.append(batch),
  )
  assert exported.partitions == 1 and exported.outside == {"ARG_MAX": 1, "CAST": 1}
  assert exported.note["output"] == {"shape": [1, 64, 512], "type": "uint8", "meaning": "class of every pixel"}
  assert exported.agreement.snr_db is None and exported.agreement.top1_agreement > 0.9999
  file, logits = runtime.TFLiteModel(exported.content), runtime.TFLiteModel(exporting.convert_float(a, variables))
  assert file.output["dtype"] == np.uint8
  for x in images[:2]:
    # after the last scaling: the same as of the logits, to the last pixel
    np.testing.assert_array_equal(file(x[None]), logits(x[None]).argmax(-1))
  classes = np.concatenate([found for _, _, found in heard])
  assert (classes == expected[:4].argmax(-1)).mean() == exported.agreement.top1_agreement
  assert len(np.unique(classes)) > 2


def test_many_classes_do_not_fit_into_a_byte():
  a = little(classes=300)
  assert (
    runtime.TFLiteModel(
      exporting.convert_float(a, initialize(network(a), 0), outputs=task_class(a).export_outputs(a, argmax=True))
    ).output["dtype"]
    == np.int32
  )


def test_the_argmax_of_a_classifier_is_wrong_use(tmp_path, tiny):
  with pytest.raises(UsageError, match="invalid argmax=True for classification"):
    exporting.write_tflite(
      tiny, {}, tmp_path / "m", np.zeros((1, 16, 16, 3), np.float32), exporting.TFLiteOptions(task_options={"argmax": True})
    )


ARGMAX = [(kind, True) for kind in ("float16", "int8_weights", "int8_integer")]


@pytest.mark.parametrize(
  ("kind", "argmax"),
  [*((kind, False) for kind in quantize.QUANTIZATIONS if kind != "none"), ("int8", True)]
  + [pytest.param(*one, marks=pytest.mark.slow) for one in ARGMAX],
)
def test_every_kind(wide, kind, argmax, tmp_path):
  a, variables, images, _ = wide
  exported = exporting.write_tflite(
    a,
    variables,
    tmp_path / "m",
    images[:4],
    exporting.TFLiteOptions(quantization=kind, task_options={"argmax": argmax}, trained=False),
    calibration=images,
  )
  after = {"ARG_MAX": 1, "CAST": 1} if argmax else {}
  if kind == "int8_integer":
    # there is no float tensor in it, and XNNPACK has no other average pool over windows
    assert exported.outside.pop("AVERAGE_POOL_2D") == 1 and exported.partitions == 2
    # the argmax of 8 bits would be of too many that are equal: ai-edge-quantizer takes it in float
    exported.outside.pop("DEQUANTIZE", None)
  else:
    assert exported.partitions == 1
  assert exported.outside == after
  least = {"float16": 0.99, "int8_weights": 0.9, "int8": 0.8, "int8_integer": 0.75}[kind]
  assert least < exported.agreement.top1_agreement < 1


@pytest.mark.slow
def test_int8_bears_channels_of_the_stem_that_are_larger_than_others():
  a = little(size=(64, 96))
  variables, images = random_weights(a, num_images=4)
  stem, first = (variables["params"]["backbone"][row] for row in ("stem", "block_01"))
  large = np.where(np.arange(a.stem.filters) == 3, 40, 1)
  stem["bn"]["scale"] = large * stem["bn"]["scale"]
  first["depthwise"]["kernel"] = first["depthwise"]["kernel"] / large
  content = exporting.convert_float(a, variables)
  made = runtime.TFLiteModel(quantize.quantize(content, "int8", [x[None] for x in images]))
  assert agreement.compare(inference.outputs(network(a), variables, images), made.run_all(images)).snr_db > 20  # else 7


def test_what_int8_leaves_in_float(wide):
  a, variables, images, _ = wide
  made = quantize.quantize(exporting.convert_float(a, variables), "int8", [x[None] for x in images])
  file = runtime.TFLiteModel(made, transparent=True)
  kinds = {t["index"]: t["dtype"] for t in file.interpreter.get_tensor_details()}
  found = {(op.row, op.type): kinds[op.output] for op in graph.operators(made) if op.type not in ("QUANTIZE", "DEQUANTIZE")}
  assert found["resize", "RESIZE_BILINEAR"] == found["pool", "AVERAGE_POOL_2D"] == np.float32
  for row, kind in (("gate", "RESIZE_BILINEAR"), ("gate", "MUL"), ("logits", "CONV_2D"), ("skip_logits", "ADD")):
    assert found[row, kind] == np.int8


@pytest.mark.parametrize(
  ("a", "head"),
  [
    (little(), ["filter", "pool", "gate", "logits", "skip_logits", "resize", "argmax"]),
    (little(head="r_aspp", **WIDE), ["filter", "pool", "pooled", "merge", "logits", "resize", "argmax"]),
  ],
  ids=["lr_aspp", "r_aspp"],
)
def test_rows_of_operators(a, head):
  operators = graph.operators(
    exporting.convert_float(a, initialize(network(a), 0), outputs=task_class(a).export_outputs(a, argmax=True))
  )
  rows = list(dict.fromkeys(op.row for op in operators))
  blocks = [name for name, _, _ in a.rows()]
  # the converter may put the skip's logits wherever their map is known
  assert sorted(rows) == sorted(["stem", *blocks, "features", *head]) and rows[-2:] == ["resize", "argmax"]
  means = [op.row for op in operators if op.type in ("MEAN", "AVERAGE_POOL_2D")]
  assert means == [*(name for name, _, b in a.rows() if b.se), "pool"]


@pytest.mark.parametrize("row", [pytest.param("block_04", marks=pytest.mark.slow), "filter", "skip_logits"])
def test_what_departs_is_named(row, wide, tmp_path, monkeypatch):
  a, variables, images, _ = wide
  params = {**variables["params"], "backbone": dict(variables["params"]["backbone"])}
  part = params["backbone"] if row.startswith("block") else params
  part[row] = jax.tree.map(lambda x: -x, part[row])
  convert = exporting.convert_float
  monkeypatch.setattr(
    exporting, "convert_float", lambda a, _, *how, **more: convert(a, {**variables, "params": params}, *how, **more)
  )
  with pytest.raises(FatalError, match=rf"is not written: .*; {row} departs first"):
    exporting.write_tflite(a, variables, tmp_path / "m", images[:2])
  with pytest.raises(FatalError, match=r"its classes equal Flax's at \d+\.\d+% of the positions, less than .* 0\.999"):
    exporting.write_tflite(a, variables, tmp_path / "m", images[:2], exporting.TFLiteOptions(task_options={"argmax": True}))
  assert not list(tmp_path.iterdir())


def test_batches_are_compared_as_one(wide, tmp_path):
  a, variables, images, expected = wide
  heard = []
  batches = [{"image": images[:3], "label": np.arange(3)}, {"image": images[3:5], "label": np.arange(3, 5)}]
  exported = exporting.write_tflite(
    a, variables, tmp_path / "m", batches, exporting.TFLiteOptions(trained=False), on_batch=lambda *batch: heard.append(batch)
  )
  assert exported.agreement.images == 5
  np.testing.assert_array_equal(np.concatenate([batch["label"] for batch, _, _ in heard]), np.arange(5))
  np.testing.assert_allclose(np.concatenate([logits for _, logits, _ in heard]), expected[:5], atol=1e-4)
  at_once = agreement.compare(*(np.concatenate([part[i] for part in heard]) for i in (1, 2)))
  assert dataclasses.asdict(at_once) == pytest.approx(dataclasses.asdict(exported.agreement))


def test_agreement_of_classes():
  expected = np.array([[[[1.0, 3.0, 2.0], [5.0, 0.0, 4.5]]]])
  found = agreement.compare(expected, np.array([[[2, 0]]], np.uint8))
  assert (found.images, found.max_difference, found.largest_logit) == (1, 1.0, 5.0)
  assert (found.snr_db, found.top1_agreement) == (None, 0.5)


def test_a_few_images_at_a_time():
  a = little(size=(1024, 2048))
  assert [inference.images_per_step(a.replace(resolution=r)) for r in ((1024, 2048), (512, 1024), 96)] == [1, 4, 50]
  assert inference.images_per_step(little(), 4) == 4 and inference.images_per_step(tiny_architecture(resolution=2000)) == 50


@pytest.mark.slow
def test_seeded_weights_of_large_networks_take_small_images():
  a = little(size=(256, 512))
  variables, images = random_weights(a, num_images=2)
  assert images.shape == (2, 256, 512, 3)
  small, others = random_weights(a.replace(resolution=256), num_images=2)
  assert others.shape == (2, 256, 256, 3)
  jax.tree.map(np.testing.assert_array_equal, variables, small)


@pytest.mark.slow
def test_stablehlo_of_any_number_of_wide_images(tmp_path):
  a = little(size=(64, 128))
  variables, images = random_weights(a)
  assert portable.write_stablehlo(a, variables, tmp_path / "m.stablehlo", images) < 1e-4
  run = jax.export.deserialize(bytearray((tmp_path / "m.stablehlo").read_bytes())).call
  expected = inference.outputs(network(a), variables, images)
  np.testing.assert_allclose(np.concatenate([run(images[:1]), run(images[1:])]), expected, atol=1e-4)
