"""Inference in parts: the outputs of the whole batch."""

import jax
import numpy as np
import pytest
from tiny_network import FEW_BLOCKS

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.models import inference
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network


def built(head="classifier", **compute):
  net = architecture("mobilenetv3_small", head=head, blocks=FEW_BLOCKS, resolution=32, num_classes=3)
  model = network(net, Compute(**compute))
  return model, initialize(model, 0)


def images(n, size=32):
  return np.random.default_rng(n).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("head", ["classifier", "lr_aspp", "ssdlite"])
def test_parts_are_the_whole(head, monkeypatch):
  model, variables = built(head)
  # of the largest map of an image: parts of two or three, of which 7 images fill up the last
  monkeypatch.setattr(inference, "PART", 3 * 4 * 16 * 16 * 16)
  x = images(7)
  text = jax.jit(lambda v, x: inference.apply(model, v, x)).trace(variables, x).lower().as_text()
  assert "stablehlo.while" in text
  found = jax.jit(lambda v, x: inference.apply(model, v, x))(variables, x)
  expected = jax.jit(model.apply)(variables, x)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert one.shape == other.shape and np.abs(one - other).max() < 1e-5 * np.abs(other).max()


@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
@pytest.mark.parametrize("told", [True, False])
def test_accelerators_take_all_at_once(platform, told, monkeypatch):
  """The text that is lowered for a platform: one that is named, or that is known at lowering only."""
  if not told:
    # as in a process with a GPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(inference, "PART", 1)
  model, variables = built(platform=platform if told else None)
  work = jax.jit(lambda v, x: inference.apply(model, v, x)).trace(variables, images(4))
  text = work.lower(lowering_platforms=(platform,)).as_text()
  assert ("stablehlo.while" in text) == (platform == "cpu")


def test_a_part_has_fewer_larger_images():
  net = architecture("mobilenetv2")
  # 96 channels at 112 x 112
  assert inference.images_per_part(net, (224, 224), 24 << 20) == (24 << 20) // (4 * 96 * 112**2) == 5
  assert inference.images_per_part(net, (448, 448), 24 << 20) == 1
  assert inference.images_per_part(net, (4096, 4096), 24 << 20) == 1
  assert inference.images_per_part(net, (28, 28), 24 << 20) > 300
