"""The fast formulations are the plain convolution: forward, input gradient and weight gradient, in float64."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from mnv3_jax.models import convolutions

CASES = [
  (kernel, stride, dilation, padding)
  for kernel, stride, dilation, padding in itertools.product((3, 5), (1, 2), (1, 2, 4), ("same", "symmetric"))
  if stride == 1 or dilation == 1
]


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def depthwise_and_gradients(formulation, x, w, g, **row):
  y, back = jax.vjp(lambda x, w: convolutions.depthwise(x, w, formulation=formulation, **row), x, w)
  return y, *back(g)


def assert_as_plain(shape, kernel, stride, dilation, padding):
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=shape), rng.normal(size=(kernel, kernel, 1, shape[3]))
  g = rng.normal(size=(shape[0], -(-shape[1] // stride), -(-shape[2] // stride), shape[3]))
  row = {"stride": stride, "dilation": dilation, "padding": padding}

  @jax.jit
  def both(x, w, g):
    return [depthwise_and_gradients(formulation, x, w, g, **row) for formulation in ("plain", "shifted", "diagonal", "auto")]

  plain, *others = both(x, w, g)
  for other in others:
    for name, a, b in zip(("output", "input gradient", "weight gradient"), other, plain, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "padding"), CASES)
def test_depthwise_is_the_grouped_convolution(kernel, stride, dilation, padding):
  for height, width, channels in ((8, 8, 3), (7, 12, 16), (1, 2, 8)):
    assert_as_plain((2, height, width, channels), kernel, stride, dilation, padding)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(strategies.tuples(*[strategies.integers(1, n) for n in (3, 11, 11, 4)]), strategies.sampled_from(CASES))
def test_depthwise_of_any_size(shape, case):
  assert_as_plain(shape, *case)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_under_vmap(stride):
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(3, 2, 9, 6, 4)), rng.normal(size=(3, 3, 1, 4))

  def loss(formulation):
    def one(x):
      return (convolutions.depthwise(x, w, stride=stride, formulation=formulation) ** 2).sum()

    return jax.vmap(jax.grad(one))(x)

  np.testing.assert_allclose(loss("shifted"), loss("plain"), rtol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_in_a_data_parallel_map(stride):
  rng = np.random.default_rng(0)
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ("devices",))
  x, w = rng.normal(size=(2 * len(jax.devices()), 9, 6, 4)), rng.normal(size=(3, 3, 1, 4))

  def gradient(formulation):
    def local(x, w):
      g = jax.grad(lambda w: (convolutions.depthwise(x, w, stride=stride, formulation=formulation) ** 2).sum())(w)
      return jax.lax.psum(g, "devices")

    split, whole = jax.sharding.PartitionSpec("devices"), jax.sharding.PartitionSpec()
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(split, whole), out_specs=whole, check_vma=False))(x, w)

  np.testing.assert_allclose(gradient("shifted"), gradient("plain"), rtol=1e-10)


@pytest.mark.parametrize(("channels", "kernel", "stride"), [(1, 3, 2), (3, 3, 2), (3, 5, 1), (4, 3, 2), (5, 3, 2)])
@pytest.mark.parametrize("padding", ["same", "symmetric", "keras_v1"])
def test_the_stem_is_the_ordinary_convolution(channels, kernel, stride, padding):
  rng = np.random.default_rng(0)
  for height, width in ((8, 8), (7, 11)):
    x, w = rng.normal(size=(2, height, width, channels)), rng.normal(size=(kernel, kernel, channels, 6))

    def gradients(formulation, x, w):
      form = functools.partial(convolutions.stem, stride=stride, padding=padding, formulation=formulation)
      y, back = jax.vjp(form, x, w)
      return y, *back(jnp.cos(y))

    for a, b in zip(gradients("auto", x, w), gradients("plain", x, w), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_the_stem_in_bfloat16_is_summed_in_float32():
  rng = np.random.default_rng(0)
  x, w = (jnp.asarray(rng.normal(size=s), "bfloat16") for s in ((2, 8, 8, 3), (3, 3, 3, 16)))
  y = convolutions.stem(x, w, stride=2)
  assert y.dtype == x.dtype
  exact = convolutions.stem(x.astype("float64"), w.astype("float64"), stride=2, formulation="plain")
  np.testing.assert_allclose(y.astype("float64"), exact, rtol=2**-8, atol=1e-6)


def test_forward_mode_is_refused_where_the_gradient_is_ours():
  x, w = np.ones((1, 4, 4, 2)), np.ones((3, 3, 1, 2))
  with pytest.raises(TypeError, match="forward-mode"):
    jax.jvp(lambda w: convolutions.depthwise(x, w, formulation="shifted"), (w,), (w,))
  jax.jvp(lambda w: convolutions.depthwise(x, w, formulation="plain"), (w,), (w,))


def test_another_name_is_refused():
  with pytest.raises(ValueError, match="'fast'; choose one of auto, plain, shifted"):
    convolutions.depthwise(np.ones((1, 4, 4, 2)), np.ones((3, 3, 1, 2)), formulation="fast")


@pytest.mark.parametrize(("platform", "groups"), [("cpu", None), ("tpu", 2), ("cuda", 16)])
@pytest.mark.parametrize("told", [True, False])
def test_auto_is_for_the_platform_that_runs_it(platform, groups, told, monkeypatch):
  """The text that is lowered here, on a CPU, for another platform: one that is named, or that is known at lowering only."""
  x, w, g = np.ones((128, 8, 8, 16)), np.ones((3, 3, 1, 16)), np.ones((128, 4, 4, 16))
  if not told:
    # as in a process with a GPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

  @jax.jit
  def work(x, w, g):
    return depthwise_and_gradients("auto", x, w, g, stride=2, platform=platform if told else None)

  text = work.trace(x, w, g).lower(lowering_platforms=(platform,)).as_text()
  assert set(re.findall(r"_group_count = (?!1 )(\d+)", text)) == ({str(groups)} if groups else set())
  assert ("stablehlo.convolution" in text) == bool(groups)


@pytest.mark.parametrize(("images", "channels", "groups"), [(256, 16, 2), (128, 12, 12), (125, 16, 16), (4, 16, 16)])
def test_a_tpu_takes_groups_of_channels_for_batches_of_its_lanes(images, channels, groups):
  work = jax.jit(functools.partial(convolutions.depthwise, platform="tpu"))
  x, w = np.ones((images, 4, 4, channels)), np.ones((3, 3, 1, channels))
  text = work.trace(x, w).lower(lowering_platforms=("tpu",)).as_text()
  assert re.findall(r"feature_group_count = (\d+)", text) == [str(groups)]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "padding"), CASES[::5])
@pytest.mark.parametrize("size", [1, 4, 8])
def test_groups_of_channels_are_the_grouped_convolution(kernel, stride, dilation, padding, size):
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(2, 7, 9, 16)), rng.normal(size=(kernel, kernel, 1, 16))
  row = {"stride": stride, "dilation": dilation, "padding": padding}

  def gradients(function):
    y, back = jax.vjp(function, x, w)
    return y, *back(jnp.cos(y))

  groups = gradients(functools.partial(convolutions.in_groups, size=size, **row))
  plain = gradients(functools.partial(convolutions.depthwise, formulation="plain", **row))
  for a, b in zip(groups, plain, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_a_process_with_a_gpu_computes_the_same_on_its_cpu(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert_as_plain((2, 9, 8, 16), 3, 2, 1, "same")


def test_pointwise_is_the_1x1_convolution():
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(1, 1, 3, 7))
  results = []
  for formulation in ("shifted", "plain"):
    y, back = jax.vjp(lambda x, w, f=formulation: convolutions.pointwise(x, w, formulation=f), x, w)
    results.append((y, *back(np.ones((2, 5, 4, 7)))))
  for a, b in zip(*results, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_bfloat16_is_summed_in_float32():
  rng = np.random.default_rng(0)
  x, w = (jax.numpy.asarray(rng.normal(size=s), "bfloat16") for s in ((2, 8, 8, 4), (5, 5, 1, 4)))
  exact = convolutions.depthwise(x.astype("float64"), w.astype("float64"))
  y = convolutions.depthwise(x, w)
  assert y.dtype == x.dtype
  # one rounding at the end: half a unit in the last of 8 bits
  np.testing.assert_allclose(y.astype("float64"), exact, rtol=2**-8, atol=1e-6)


def test_the_cpu_path_has_no_grouped_convolution():
  def loss(x, w):
    return convolutions.depthwise(x, w, stride=2).sum()

  text = jax.jit(jax.grad(loss, (0, 1))).lower(np.ones((2, 8, 8, 4)), np.ones((3, 3, 1, 4))).compile().as_text()
  assert "convolution(" not in text


@pytest.mark.parametrize(
  ("size", "stride", "padding", "expected"),
  [
    (224, 2, "same", (0, 1)),
    (224, 2, "symmetric", (1, 1)),
    (7, 1, "same", (1, 1)),
    (7, 2, "same", (1, 1)),
  ],
)
def test_pads_are_those_of_tensorflow_and_pytorch(size, stride, padding, expected):
  assert convolutions.pads(size, 3, stride, 1, padding) == expected
