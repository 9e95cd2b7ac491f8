"""A masked network is the truncated one: outputs, gradients, batch-norm statistics, and what training makes of it."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from conftest import NIGHTLY
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from random_subnetworks import cuts, random_subnetwork, random_variables, seed_network
from tiny_network import universal_network

from mnv3_jax.architectures import channels, cost, edits, zoo
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.architectures.validation import ACTIVATIONS
from mnv3_jax.models.activations import FUNCTIONS
from mnv3_jax.models.convolutions import pads
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.subnetworks.importance import cut, importance
from mnv3_jax.subnetworks.subnetwork import Subnetwork, masked, masks, outside, truncated
from mnv3_jax.subnetworks.taps import taps

# compile in half the time
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
HEADS = ("classifier", "lr_aspp", "r_aspp", "ssdlite")


@functools.cache
def compiled(architecture):
  """(variables, function of them and images to (gradient and statistics, outputs in training, outputs in inference))."""
  # plain: compiled sooner, but the exporters' bilinear operator has no derivative
  dense = architecture.head.task == "segmentation"
  model = network(architecture, Compute(dtype="float64", formulation="shifted" if dense else "plain"))

  @functools.partial(jax.jit, compiler_options=QUICK)
  def both(variables, x):
    def objective(params):
      outputs, changed = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
      leaves = jax.tree.leaves(outputs)
      # different slopes for every output
      weights = [np.sin(np.arange(leaf.size).reshape(leaf.shape)) for leaf in leaves]
      return sum((leaf * w).sum() for leaf, w in zip(leaves, weights, strict=True)), (outputs, changed["batch_stats"])

    gradient, (outputs, statistics) = jax.grad(objective, has_aux=True)(variables["params"])
    return {"params": gradient, "batch_stats": statistics}, outputs, model.apply(variables, x)

  return initialize(network(architecture), 0), both


def images(architecture, n=3):
  return np.random.default_rng(1).uniform(-1, 1, (n, *architecture.image_shape))


def assert_close(expected, found, tolerance):
  """Relative to the largest number of each tensor."""

  def check(path, a, b):
    scale = max(np.abs(a).max(), 1.0)
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(np.asarray(b) / scale, np.asarray(a) / scale, atol=tolerance, rtol=0, err_msg=name)

  jax.tree_util.tree_map_with_path(check, expected, found)


def check_equal(seed, subnetwork):
  """The masked seed is the truncated network: in float64, so that batch norm over few values does not hide errors."""
  shapes, of_seed = compiled(seed)
  variables, x = random_variables(shapes, 3), images(seed)
  own_shapes, own = compiled(subnetwork.architecture)
  small = truncated(variables, subnetwork)
  jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), own_shapes, small)
  mask = masks(subnetwork, variables["params"])
  assert sum(m.sum() for m in jax.tree.leaves(mask)) == cost.params(subnetwork.architecture)
  with jax.enable_x64(True):
    found, *outputs = of_seed(masked(variables, mask, outside(subnetwork, variables["params"])), x)
    expected, *own_outputs = own(small, x)
  # heads compute their last sums in float32
  assert_close(own_outputs, outputs, 1e-6)
  assert_close(expected, truncated(found, subnetwork), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["classifier", *(pytest.param(head, marks=NIGHTLY) for head in HEADS[1:])])
def test_a_masked_network_is_the_truncated_one(head):
  # segmentation heads scale maps by whole factors
  seed = seed_network(head, resolution=(32, 64) if "aspp" in head else (33, 48))
  taken = {name.partition("/")[0] for layer in seed.head_layers() for name in layer.takes}

  # an example compiles for seconds: too long for shrinking
  @settings(max_examples=2, phases=[Phase.generate], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
  @given(drawn=cuts(seed, unskippable=taken), number=st.integers(0, 100))
  def check(drawn, number):
    check_equal(seed, random_subnetwork(seed, *drawn, np.random.default_rng(number)))

  check()


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", pytest.param("symmetric", marks=NIGHTLY), pytest.param("keras_v1", marks=NIGHTLY)])
def test_a_masked_network_of_universal_and_fused_blocks_is_the_truncated_one(padding):
  seed = universal_network().replace(padding=padding)

  @settings(max_examples=2, phases=[Phase.generate], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
  @given(drawn=cuts(seed), number=st.integers(0, 100))
  def check(drawn, number):
    check_equal(seed, random_subnetwork(seed, *drawn, np.random.default_rng(number)))

  check()


def test_a_block_without_a_convolution_is_not_inside_of_one_with_it():
  seed = universal_network()
  for block, changes in ((2, {"start": 0}), (2, {"kernel": 0}), (3, {"kernel": 3})):
    blocks = list(seed.blocks)
    blocks[block] = dataclasses.replace(blocks[block], **changes)
    with pytest.raises(ArchitectureError, match=f"invalid block_0{block + 1}=.*expected one with the structure of"):
      Subnetwork(seed, seed.replace(blocks=tuple(blocks)), Subnetwork.whole(seed).blocks)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["symmetric", pytest.param("keras_v1", marks=NIGHTLY)])
def test_smaller_kernels_under_other_paddings(padding):
  seed = seed_network(padding=padding, resolution=(36, 66))
  blocks = tuple(dataclasses.replace(b, kernel=3) for b in seed.blocks)
  check_equal(seed, Subnetwork(seed, seed.replace(blocks=blocks), Subnetwork.whole(seed).blocks))


@pytest.mark.parametrize("padding", ["same", "symmetric", "keras_v1"])
@pytest.mark.parametrize("stride", [1, 2])
def test_taps_are_aligned(padding, stride):
  """A kernel with zeros around its aligned taps reads what the smaller kernel reads, at every size."""
  rng = np.random.default_rng(0)
  for size in range(2, 10):
    for kernel, smaller in ((3, 1), (5, 1), (5, 3), (7, 5)):
      # one tap under "keras_v1" has other outputs
      if (padding == "symmetric" and size < kernel // 2) or (padding == "keras_v1" and smaller == 1):
        continue
      place = {"stride": stride, "dilation": 1, "padding": padding}
      found = taps(size, kernel, smaller, **place)
      assert smaller == 1 or found.start == (kernel - smaller) // 2
      x, small = rng.normal(size=(size,)), rng.normal(size=(smaller,))
      large = np.zeros(kernel)
      large[found] = small
      np.testing.assert_allclose(correlated(x, large, **place), correlated(x, small, **place), atol=1e-12)


def correlated(x, w, *, stride, dilation, padding):
  """A convolution along one axis."""
  padded = np.pad(x, pads(len(x), len(w), stride, dilation, padding))
  return [padded[i : i + len(w)] @ w for i in range(0, len(padded) - len(w) + 1, stride)]


def test_every_activation_keeps_zero():
  """What zeros in place of masks rest on."""
  for name in ACTIVATIONS:
    assert FUNCTIONS[name](jax.numpy.zeros(())) == 0


@pytest.mark.parametrize("name", zoo.MODELS)
@pytest.mark.parametrize("head", HEADS)
def test_the_groups_of_every_published_network(name, head):
  """Every layer has as many channels as its groups, and each stream one group for all of its blocks."""
  net = edits.with_head(zoo.MODELS[name](), head)
  found, sizes = channels.layers(net), channels.sizes(net)
  assert [x.layer for x in found] == list(cost.layers(net))
  for x in found:
    assert (sum(sizes[g] for g in x.inputs), sizes[x.output]) == (x.layer.in_channels, x.layer.out_channels), x.layer.name
  inputs = {x.layer.name: x.inputs for x in found}
  for name, channels_in, block in net.rows():
    if block.adds_input(channels_in):
      (before,) = inputs[f"{name}/expand" if block.expand != channels_in else f"{name}/depthwise"]
      assert name in channels.streams(net)[before]


def test_a_cut_keeps_the_most_important_channels_of_each_stream():
  seed = seed_network()
  variables = random_variables(initialize(network(seed), 0), 1)
  backbone, stats = variables["params"]["backbone"], variables["batch_stats"]["backbone"]
  by_group = importance(seed, variables)

  def norms(*path):
    layer, var = backbone, stats
    for key in path:
      layer, var = layer[key], var[key]
    norm = np.linalg.norm(layer["kernel"].reshape(-1, layer["kernel"].shape[-1]), axis=0)
    return norm * layer["bn"]["scale"] / np.sqrt(var["bn"]["var"] + 1e-3)

  np.testing.assert_allclose(by_group["block_02"], norms("block_02", "project") + norms("block_03", "project"), rtol=1e-5)
  np.testing.assert_allclose(
    by_group["block_03/expand"], norms("block_03", "expand") + norms("block_03", "depthwise"), rtol=1e-5
  )
  squeeze = np.linalg.norm(backbone["block_06"]["se"]["reduce"]["kernel"][0, 0], axis=0)
  np.testing.assert_allclose(by_group["block_06/se"], squeeze, rtol=1e-5)

  smaller = edits.with_channels(seed, {"block_02": (24, 12), "block_03": (40, 12), "block_06": (40, 40)})
  once = cut(Subnetwork.whole(seed), smaller, by_group)
  assert once.kept["block_02"] == tuple(sorted(np.argsort(-by_group["block_02"])[:12]))
  # block_03 squeezes half of its input; 40 / 4 is 16 by the authors' rule, as 64 / 4 is
  assert {group: len(indices) for group, indices in once.kept.items()} == {
    "block_02": 12,
    "block_03/se": 6,
    "block_06/expand": 40,
  } | ({"block_06/se": 8} if smaller.blocks[5].se.channels(32, 40) == 8 else {})
  # a second cut stays inside of the first, by the zeros that it made and by its indices
  again = edits.with_channels(smaller, {"block_02": (24, 10), "block_03": (40, 10)})
  twice = cut(once, again, by_group)
  assert (
    set(twice.kept["block_02"]) < set(once.kept["block_02"]) and twice.kept["block_06/expand"] == once.kept["block_06/expand"]
  )


def test_what_is_no_subnetwork_is_refused():
  seed = seed_network()
  whole = Subnetwork.whole(seed)
  wider = seed.replace(blocks=(*seed.blocks[:-1], dataclasses.replace(seed.blocks[-1], expand=72)))
  with pytest.raises(ArchitectureError, match="block_06/expand: 64 of 64 channels'; expected 72"):
    Subnetwork(seed, wider, whole.blocks)
  with pytest.raises(ArchitectureError, match="block_02 does not add its input and cannot be skipped"):
    Subnetwork(seed, seed.replace(blocks=(seed.blocks[0], *seed.blocks[2:])), (whole.blocks[0], *whole.blocks[2:]))
  with pytest.raises(ArchitectureError, match="expected one with the structure"):
    other = dataclasses.replace(seed.blocks[0], stride=2)
    Subnetwork(seed, seed.replace(blocks=(other, *seed.blocks[1:])), whole.blocks)
  with pytest.raises(ArchitectureError, match="in ascending order"):
    Subnetwork(seed, seed, whole.blocks, {"stem": (0, 1, 2, 3, 4, 5, 7, 6)})
  with pytest.raises(ArchitectureError, match="invalid block='block_99'"):
    edits.with_channels(seed, {"block_99": (8, 8)})
  with pytest.raises(ArchitectureError, match="an expansion to the 8 channels of the input is none"):
    edits.with_channels(seed, {"block_02": (8, 16)})
  with pytest.raises(ArchitectureError, match="adds or removes a residual connection"):
    edits.with_channels(seed, {"block_03": (40, 12)})
