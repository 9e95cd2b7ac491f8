"""The Linen module of detectors: names, order of the anchors, training, dtypes, first values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NIGHTLY

from mnv3_jax.architectures import conventions, cost, edits, fields, rows, sizes, zoo
from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, Features, Stem
from mnv3_jax.models import inference
from mnv3_jax.models.initialize import initialize, shapes
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.models.ssdlite import Predictor, SSDOutputs

# compiles in a third of the time
PLAIN = Compute(formulation="plain")


def small_detector(convention="tensorflow", size=(64, 96), extras=(200, 160)):
  """A few blocks down to stride 32 and two extra rows."""
  block = {"kernel": 3, "activation": "relu6"}
  a = Architecture(
    name="small",
    stem=Stem(filters=8, activation="relu6"),
    blocks=(
      Block(expand=8, out=8, stride=2, **block),
      Block(expand=16, out=8, stride=2, **block),
      Block(expand=24, out=16, stride=2, **block),
      Block(expand=32, out=24, stride=2, **block),
    ),
    features=Features(filters=40, activation="relu6"),
    head=ClassifierHead(hidden=16),
    resolution=size,
    num_classes=3,
    width=0.1,
  )
  a = edits.with_head(a.replace(padding=conventions.CONVENTIONS[convention].padding), "ssdlite", convention=convention)
  return a.replace(head=dataclasses.replace(a.head, extras=extras))


def images(a, n=2, seed=0):
  return np.random.default_rng(seed).uniform(-1, 1, (n, *a.image_shape)).astype(np.float32)


def paths(tree):
  return {"/".join(key.key for key in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def convention_of(model):
  """Half of the networks have one convention, half the other."""
  return sorted(conventions.CONVENTIONS)[list(zoo.MODELS).index(model) % 2]


@pytest.mark.parametrize("model", zoo.MODELS)
def test_parameters_and_outputs_of_every_backbone(model):
  convention = convention_of(model)
  size = {"resolution": 96, "resolution_width": 129, "num_classes": 4, "width": 0.5}
  a = fields.architecture(model, head="ssdlite", head_convention=convention, **size)
  module = network(a)

  def run(x):
    out, variables = module.init_with_output({}, x)
    return out, variables, module.apply(variables, x, method="features")

  x = jax.ShapeDtypeStruct((2, *a.image_shape), jnp.float32)
  out, variables, maps = jax.eval_shape(run, x)
  found = paths(variables["params"])
  layers = {layer.name: layer for layer in cost.layers(a)}
  heads = rows.after(a)
  expected = {name if name.split("/")[0] in heads else f"backbone/{name}" for name in layers}
  assert {path.rsplit("/", 1)[0].removesuffix("/bn") for path in found} == expected
  assert sum(np.prod(shape) for shape in found.values()) == cost.params(a)
  anchors, numbers = a.head.output_shape(a)
  assert isinstance(out, SSDOutputs) and out.codes.dtype == out.logits.dtype == jnp.float32
  assert out.codes.shape == (2, anchors, 4) and out.logits.shape == (2, anchors, 5) and numbers == 9
  # C4 is the map that the head names
  for m, name in zip(a.head.maps(a), ("C4", "features"), strict=False):
    assert maps[name].shape[1:] == maps[m.name].shape[1:] == (*sizes.sides(m.size), m.channels)


def test_the_anchor_of_a_cell_is_fastest_then_x_then_y():
  a = small_detector()
  predictor = Predictor(a, Compute(), "codes", anchors=3, numbers=4)
  x = np.zeros((1, 2, 5, 2), np.float32)
  # channel 0 is the row, channel 1 the column, both of a size that ReLU6 leaves alone
  x[..., 0], x[..., 1] = np.arange(2)[:, None], np.arange(5)
  depthwise = np.zeros((3, 3, 1, 2), np.float32)
  depthwise[1, 1] = 1
  last = np.zeros((1, 1, 2, 12), np.float32)
  last[0, 0, 0], last[0, 0, 1] = 1000, 100
  params = {
    "depthwise": {"kernel": depthwise, "bn": {"scale": np.full(2, np.sqrt(1.001)), "bias": np.zeros(2)}},
    "codes": {"kernel": last, "bias": np.arange(12.0)},
  }
  statistics = {"depthwise": {"bn": {"mean": np.zeros(2), "var": np.ones(2)}}}
  found = predictor.apply({"params": params, "batch_stats": statistics}, jnp.asarray(x), False)
  expected = [1000 * y + 100 * x + 4 * k + np.arange(4) for y in range(2) for x in range(5) for k in range(3)]
  np.testing.assert_allclose(np.asarray(found)[0], expected, rtol=1e-5)


def test_outputs_of_each_map_in_order():
  a = small_detector()
  module = network(a)
  variables = initialize(module, 0)
  # logits are what their biases are: one number for each map
  params = {**variables["params"]}
  for i in range(4):
    leaf = params[f"classes_{i}"]["logits"]
    params[f"classes_{i}"] = {
      **params[f"classes_{i}"],
      "logits": {"kernel": 0 * leaf["kernel"], "bias": np.full_like(leaf["bias"], i)},
    }
  out = jax.jit(network(a, PLAIN).apply)({**variables, "params": params}, images(a, 1))
  cells = [4 * 6, 2 * 3, 1 * 2, 1]
  expected = np.concatenate([np.full((cells[i] * m.anchors, 4), i) for i, m in enumerate(a.head.maps(a))])
  np.testing.assert_array_equal(out.logits[0], expected)


def loss_and_gradient(module, variables, x):
  def loss(params):
    out, updated = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
    return (out.codes**2).mean() + jax.nn.softplus(out.logits).mean(), updated

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])


def check_gradient(a, compute):
  """Every parameter has a finite gradient, and of kernels one that is not 0 somewhere; statistics of rows not frozen move."""
  module, x = network(a, compute), images(a, 4)
  variables = initialize(module, 0)
  # at the first deviation of .03 a deep network's gradient is too small for float32 to show
  kernels = jax.tree_util.tree_map_with_path(
    lambda path, leaf: 5 * leaf if path[-1].key == "kernel" else leaf, variables["params"]
  )
  (loss, updated), gradient = loss_and_gradient(module, {**variables, "params": kernels}, x)
  assert np.isfinite(loss)
  for name, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all(), name
    # the few channels of a narrow squeeze may all be cut off by their ReLU
    if name[-1].key == "kernel" and name[-3].key != "se":
      assert np.abs(leaf).max() > 0, name
  same = jax.tree.map(lambda old, new: bool((old == new).all()), variables["batch_stats"], updated["batch_stats"])
  for name, is_same in jax.tree_util.tree_leaves_with_path(same):
    assert is_same == (rows.row_of([key.key for key in name]) in compute.frozen), name


@pytest.mark.slow
def test_gradient_and_frozen_rows():
  check_gradient(small_detector("torchvision"), dataclasses.replace(PLAIN, frozen=("stem", "extra_1", "classes_2")))


@pytest.mark.slow
@pytest.mark.parametrize(
  "model", ["mobilenetv3_large", *(pytest.param(name, marks=NIGHTLY) for name in ("mobilenetv1", "mobilenetv2", "mnasnet_a1"))]
)
def test_gradient_of_every_kind_of_backbone(model):
  convention = convention_of(model)
  a = fields.architecture(model, head="ssdlite", head_convention=convention, width=0.35, resolution=64, num_classes=3)
  check_gradient(a, Compute())


@pytest.mark.slow
def test_bfloat16_gives_float32_that_are_near():
  a = small_detector()
  exact, half = network(a, PLAIN), network(a, dataclasses.replace(PLAIN, dtype="bfloat16"))
  variables, x = initialize(exact, 0), images(a)
  one, other = jax.jit(exact.apply)(variables, x), jax.jit(half.apply)(variables, x)
  for expected, found in zip(one, other, strict=True):
    assert found.dtype == jnp.float32
    # of the spread over anchors, which is small at the start
    assert np.abs(expected - found).max() <= 0.05 * np.abs(expected).max()


def test_inference_takes_both_outputs():
  a = small_detector()
  module = network(a, PLAIN)
  variables, x = initialize(module, 0), images(a, 5)
  found = inference.outputs(module, variables, x, batch=2)
  assert isinstance(found, SSDOutputs) and found.codes.shape == (5, a.head.anchors(a), 4)
  expected = jax.jit(module.apply)(variables, x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
  assert inference.images_per_step(a) == 50


def test_other_image_sizes_have_other_anchors():
  a = small_detector()
  module, larger = network(a), small_detector(size=(128, 70))
  out = jax.eval_shape(module.apply, shapes(module), images(larger))
  assert out.codes.shape == (2, larger.head.anchors(larger), 4)


def test_one_value_per_channel_is_refused_in_training():
  a = small_detector()
  module = network(a)
  with pytest.raises(ValueError, match="extra_1/depthwise/bn: a single value per channel in training; expected more images"):
    jax.eval_shape(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]), shapes(module), images(a, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("convention", "truncated"), [("tensorflow", True), ("torchvision", False)])
def test_first_values(convention, truncated):
  a = fields.architecture("mobilenetv3_small", head="ssdlite", head_convention=convention, num_classes=20, head_class_bias=-4.6)
  variables = initialize(network(a), 3)
  leaves = {"/".join(k.key for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])}
  kernels = np.concatenate([leaf.ravel() for name, leaf in leaves.items() if name.endswith("kernel")])
  # a normal that is truncated at two deviations has 0.88 of the deviation
  assert kernels.std() == pytest.approx(0.03 * (0.8796 if truncated else 1), rel=5e-3)
  assert (np.abs(kernels).max() <= 0.06) == truncated and abs(kernels.mean()) < 1e-4
  for part in ("backbone/block_05/se/reduce", "extra_0/expand", "boxes_0/codes", "classes_0/depthwise"):
    assert leaves[f"{part}/kernel"].std() == pytest.approx(kernels.std(), rel=0.1), part
  biases = {(float(leaf.min()), float(leaf.max())) for name, leaf in leaves.items() if name.endswith("logits/bias")}
  others = {float(np.abs(leaf).max()) for name, leaf in leaves.items() if name.endswith("bias") and "logits" not in name}
  assert biases == {(np.float32(-4.6), np.float32(-4.6))} and others == {0.0}


def test_the_seed_and_the_name_decide():
  wide, narrow = (small_detector(size=size) for size in ((64, 96), (64, 64)))
  one, other = (initialize(network(a), 1)["params"] for a in (wide, narrow))
  jax.tree.map(np.testing.assert_array_equal, one, other)
  again = initialize(network(wide), 2)["params"]
  assert (again["extra_0"]["reduce"]["kernel"] != one["extra_0"]["reduce"]["kernel"]).any()
