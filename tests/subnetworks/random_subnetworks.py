"""Networks with everything, and random subnetworks of them."""

import dataclasses

import numpy as np
from hypothesis import strategies as st
from tiny_network import tiny_architecture

from mnv3_jax.architectures import channels, edits
from mnv3_jax.architectures.spec import Block, SqueezeExcite
from mnv3_jax.subnetworks.subnetwork import Subnetwork, sizes_inside


def seed_network(head="classifier", padding="same", resolution=(33, 48)):
  """Blocks with and without expansion, squeeze-excite by either rule, both strides, streams of several producers, every
  activation, and maps of stride 32 for the heads."""
  of_input = SqueezeExcite(ratio=0.5, of="input", divisor=1, gate="sigmoid")
  relu, relu6, swish, h_swish = ({"activation": name} for name in ("relu", "relu6", "swish", "hard_swish"))
  blocks = (
    Block(kernel=3, expand=8, out=8, stride=1, **h_swish),
    Block(kernel=5, expand=24, out=16, se=SqueezeExcite(), stride=2, **relu6),
    Block(kernel=5, expand=40, out=16, se=of_input, stride=1, **swish),
    Block(kernel=5, expand=32, out=24, stride=2, **relu),
    Block(kernel=5, expand=48, out=32, stride=2, **h_swish),
    Block(kernel=5, expand=64, out=40, se=SqueezeExcite(), stride=2, **h_swish),
  )
  net = tiny_architecture(blocks=blocks, padding=padding, num_classes=5, resolution=resolution)
  net = net.replace(head=dataclasses.replace(net.head, dropout=0.0))
  settings = {"lr_aspp": {"pool": "global"}, "r_aspp": {"dropout": 0.0}}
  return edits.with_head(net, head, **settings.get(head, {}))


def random_variables(variables, seed):
  """Variables of the same structure, none of them 0 or 1: scales, shifts and statistics too."""
  import jax

  rng = np.random.default_rng(seed)

  def leaf(path, x):
    low = 0.5 if path[-1].key in ("var", "scale") else -0.5
    return rng.uniform(low, low + 1, x.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(leaf, variables)


def cuts(seed, unskippable=()):
  """Strategy of (architecture, names of its blocks in the seed) inside of a seed: widths, kernels, blocks, squeeze-excites."""
  rows = list(seed.rows())
  streams = channels.streams(seed)

  @st.composite
  def draw(pick):
    stem = pick(st.integers(4, seed.stem.filters))
    outs = {}
    for group, blocks in streams.items():
      size = stem if group == "stem" else pick(st.integers(3, next(b.out for name, _, b in rows if name == blocks[0])))
      outs |= dict.fromkeys(blocks, size)
    found, inputs = [], stem
    for name, base, b in rows:
      sizes = {field: getattr(b, field) for field in ("kernel", "start") if getattr(b, field, 0)}
      kernels = {field: pick(st.sampled_from([k for k in (3, 5) if k <= size])) for field, size in sizes.items()}
      expand = inputs if not b.expands(base) else pick(st.integers(2, b.expand).filter(lambda n, inputs=inputs: n != inputs))
      residual = b.adds_input(base)
      skipped = residual and name not in unskippable and pick(st.integers(0, 4)) == 0
      if not skipped:
        se = b.se and pick(st.sampled_from([b.se, None]))
        found.append((name, dataclasses.replace(b, expand=expand, out=outs[name], residual=residual, se=se, **kernels)))
      inputs = outs[name]
    architecture = seed.replace(
      stem=dataclasses.replace(seed.stem, filters=stem), blocks=tuple(b for _, b in found), name="cut"
    )
    return architecture, tuple(name for name, _ in found)

  return draw()


def random_subnetwork(seed, architecture, blocks, rng):
  """A subnetwork with random channels."""
  total = channels.sizes(seed)
  kept = {
    group: tuple(sorted(rng.permutation(total[group])[:n].tolist()))
    for group, n in sizes_inside(seed, architecture, blocks).items()
  }
  return Subnetwork(seed, architecture, blocks, kept)


def first_channels(seed, architecture, blocks):
  """A subnetwork with the first channels of every group."""
  kept = {group: tuple(range(n)) for group, n in sizes_inside(seed, architecture, blocks).items()}
  return Subnetwork(seed, architecture, blocks, kept)
