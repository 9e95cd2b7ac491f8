"""Segmenters as modules: shapes, the heads computed by hand, scaling, memory."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from scipy import ndimage

import mnv3_jax
from mnv3_jax.architectures import cost, fields
from mnv3_jax.models import resize, segmenter
from mnv3_jax.models.initialize import initialize, shapes
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network

SMALL = {"width": 0.35, "output_stride": 16, "halved_tail": "segmentation", "num_classes": 7, "resolution": 64}
HEADS = [{"head": "lr_aspp"}, {"head": "r_aspp"}, {"head": "lr_aspp", "head_gate_bias": False}]


def images(*shape, seed=0):
  return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def lively(variables, seed=1):
  """With numbers that a trained network could have, so that every layer counts."""
  rng = np.random.default_rng(seed)

  def leaf(path, x):
    kind = path[-1].key
    if kind == "kernel":
      return (x * 4).astype(np.float32)
    low, high = {"scale": (0.5, 1.5), "var": (0.5, 1.5), "bias": (-0.5, 0.5), "mean": (-0.3, 0.3)}[kind]
    return rng.uniform(low, high, x.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(leaf, variables)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["mobilenetv3_large", "mobilenetv3_small", "mobilenetv2"])
def test_the_modules_have_the_parameters_that_are_counted(name, head):
  a = fields.architecture(name, **SMALL, **head)
  found = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes(network(a))["params"]):
    names = [k.key for k in path]
    names = names[1:] if names[0] == "backbone" else names
    layer = "/".join(n for n in names[:-1] if n != "bn")
    found[layer] = found.get(layer, 0) + leaf.size
  assert found == {layer.name: layer.params for layer in cost.layers(a)}


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS[:2])
@pytest.mark.parametrize("size", [(64, 96), (65, 41)])
def test_every_pixel_gets_its_logits_at_any_size(head, size):
  model, variables = mnv3_jax.create_model("mobilenetv3_small", **SMALL, **head)
  forward, x = jax.jit(model.apply), images(2, *size, 3)
  found = forward(lively(variables), x)
  assert found.shape == (2, *size, 7) and found.dtype == jnp.float32 and np.isfinite(found).all()
  # an image is not changed by what stands beside it
  other = forward(lively(variables), np.stack([x[0], -x[0]]))
  np.testing.assert_allclose(found[0], other[0], atol=1e-4 * np.abs(found).max())
  assert np.abs(found[1] - other[1]).max() > 1e-2 * np.abs(found).max()


def up(x, size):
  """Bilinear with half-pixel centres, another way: by SciPy's interpolation at the centres of the new pixels."""
  at = [np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in zip(size, x.shape[:2], strict=True)]
  grid = np.meshgrid(*at, indexing="ij")
  return np.stack([ndimage.map_coordinates(x[..., c], grid, order=1, mode="nearest") for c in range(x.shape[-1])], -1)


@pytest.mark.parametrize(("size", "to"), [((4, 6), (16, 24)), ((5, 7), (33, 50)), ((1, 4), (8, 16)), ((3, 3), (3, 3))])
def test_scaling_is_bilinear(size, to):
  x = jax.numpy.asarray(images(1, *size, 3), np.float32)
  np.testing.assert_allclose(resize.bilinear(x, to)[0], up(x[0], to), atol=1e-5)
  np.testing.assert_allclose(jax.jit(lambda x: resize.bilinear(x, to, "plain"))(x)[0], up(x[0], to), atol=1e-5)


def forward_of(model):
  """(variables, images) to the backbone's maps and the logits."""
  return jax.jit(lambda variables, x: (model.apply(variables, x, method="features"), model.apply(variables, x)))


def conv(x, p):
  y = x @ p["kernel"][0, 0]
  return y + p["bias"] if "bias" in p else y


def normed(x, p, s, epsilon):
  y = (x @ p["kernel"][0, 0] - s["bn"]["mean"]) / np.sqrt(s["bn"]["var"] + epsilon)
  return np.maximum(y * p["bn"]["scale"] + p["bn"]["bias"], 0)


@pytest.mark.parametrize(("pool", "gate"), [("paper", "sigmoid"), ("release", "hard_sigmoid")])
def test_lr_aspp_by_hand(pool, gate):
  """On a map that is larger than every pool: a backbone's maps, then the head in NumPy."""
  net = {**SMALL, "head": "lr_aspp", "head_pool": pool, "head_gate": gate}
  model, variables = mnv3_jax.create_model("mobilenetv3_small", **net)
  variables = lively(variables)
  x = images(1, 64, 64, 3)
  maps, found = forward_of(model)(variables, x)
  maps = {k: np.array(v[0], np.float64) for k, v in maps.items()}
  p, s = variables["params"], variables["batch_stats"]
  # the kernels of the pools shrink with the map: here all are its 4x4
  kernel, _ = model.net.head.window(4)
  assert kernel == (4, 4) and maps["features"].shape[:2] == (4, 4)
  g = conv(maps["features"].mean((0, 1), keepdims=True), p["gate"])
  g = 1 / (1 + np.exp(-g)) if gate == "sigmoid" else np.clip(g + 3, 0, 6) / 6
  y = normed(maps["features"], p["filter"], s["filter"], 1e-5) * g
  skip = maps["block_03/depthwise"]
  y = conv(up(y, skip.shape[:2]), p["logits"]) + conv(skip, p["skip_logits"])
  expected = up(y, (64, 64))
  np.testing.assert_allclose(found[0], expected, atol=1e-4 * np.abs(expected).max())


def test_r_aspp_by_hand():
  model, variables = mnv3_jax.create_model("mobilenetv3_small", **SMALL, head="r_aspp")
  variables = lively(variables)
  x = images(1, 64, 48, 3)
  maps, found = forward_of(model)(variables, x)
  last = np.array(maps["features"][0], np.float64)
  p, s = variables["params"], variables["batch_stats"]
  pooled = normed(last.mean((0, 1), keepdims=True), p["pooled"], s["pooled"], 1e-5)
  y = np.concatenate([normed(last, p["filter"], s["filter"], 1e-5), np.broadcast_to(pooled, (*last.shape[:2], 256))], -1)
  expected = up(conv(normed(y, p["merge"], s["merge"], 1e-5), p["logits"]), (64, 48))
  np.testing.assert_allclose(found[0], expected, atol=1e-4 * np.abs(expected).max())


def test_the_pool_averages_over_windows_that_do_not_reach_over_the_edge():
  x = images(2, 9, 20, 3)
  found = segmenter.average_pool(jnp.asarray(x), (5, 7), (2, 4))
  assert found.shape == (2, 3, 4, 3)
  for i in range(3):
    for j in range(4):
      np.testing.assert_allclose(found[:, i, j], x[:, 2 * i : 2 * i + 5, 4 * j : 4 * j + 7].mean((1, 2)), atol=1e-6)
  # a gate of several windows at the paper's own size
  s = fields.architecture("mobilenetv3_large", head="lr_aspp", output_stride=16).head
  assert segmenter.average_pool(jnp.asarray(images(1, 64, 128, 2)), *s.window((64, 128))).shape == (1, 1, 4, 2)


@pytest.mark.parametrize("head", ["lr_aspp", pytest.param("r_aspp", marks=pytest.mark.slow)])
def test_formulations_agree_and_have_gradients(head):
  a = fields.architecture("mobilenetv3_small", **SMALL, head=head)
  variables = lively(initialize(network(a), 0))
  x, label = images(2, 64, 64, 3), np.random.default_rng(0).integers(7, size=(2, 64, 64))
  formulations = {f: network(a, Compute(formulation=f)) for f in ("auto", "plain")}
  found = {f: jax.jit(model.apply)(variables, x) for f, model in formulations.items()}
  np.testing.assert_allclose(found["auto"], found["plain"], atol=1e-4 * np.abs(found["plain"]).max())

  def loss(params):
    logits, _ = formulations["auto"].apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
    )
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], -1).mean()

  gradient = jax.jit(jax.grad(loss))(variables["params"])
  dead = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradient) if not np.abs(g).max() > 0]
  assert not dead


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_pool_is_exact_and_has_a_gradient_where_it_is_no_whole_map(dtype):
  x = jnp.asarray(np.abs(images(1, 64, 128, 2)), dtype)
  pool = functools.partial(segmenter.average_pool, kernel=(49, 49), strides=(16, 20))
  found, gradient = jax.jit(jax.value_and_grad(lambda x: pool(x).astype(jnp.float32).sum()))(x)
  expected, pooled = np.asarray(x, np.float64)[:, :49, :49].mean((1, 2)), jax.jit(pool)(x)[:, 0, 0]
  np.testing.assert_allclose(np.asarray(pooled, np.float64), expected, rtol=1e-5 if dtype == "float32" else 0.01)
  assert found.dtype == jnp.float32 and np.asarray(gradient, np.float64).sum() == pytest.approx(8, rel=0.01)


@pytest.mark.slow
def test_bfloat16_gives_float32_logits():
  model, variables = mnv3_jax.create_model("mobilenetv3_small", **SMALL, head="lr_aspp", dtype="bfloat16")
  x = images(1, 64, 64, 3)
  exact = jax.jit(mnv3_jax.create_model("mobilenetv3_small", **SMALL, head="lr_aspp")[0].apply)(lively(variables), x)
  found = jax.jit(model.apply)(lively(variables), x)
  assert found.dtype == jnp.float32 and 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


WHOLE = """
import resource, jax, numpy as np
import mnv3_jax
net = {"output_stride": 16, "halved_tail": "segmentation", "head": "lr_aspp", "num_classes": 19}
model, variables = mnv3_jax.create_model("mobilenetv3_large", resolution=1024, resolution_width=2048, **net)
x = np.random.default_rng(0).uniform(-1, 1, (1, 1024, 2048, 3)).astype(np.float32)
labels = jax.jit(lambda v, x: model.apply(v, x).argmax(-1))(variables, x)
assert labels.shape == (1, 1024, 2048)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_whole_street_needs_less_than_8_gb():
  done = subprocess.run([sys.executable, "-c", WHOLE], cwd=ROOT, capture_output=True, text=True, timeout=400)
  assert done.returncode == 0, done.stderr[-2000:]
  assert int(done.stdout) / 1e6 < 8, f"{int(done.stdout) / 1e6:.1f} GB"
