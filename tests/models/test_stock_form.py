"""For TPU, segmenters and detectors, whose batches are small, train by the operations of the plain formulation."""

import jax
import numpy as np
import pytest
from tiny_network import FEW_BLOCKS

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network


@pytest.mark.parametrize(("head", "images"), [("lr_aspp", 4), ("r_aspp", 4), ("ssdlite", 64)])
def test_the_step_is_that_of_the_plain_formulation(head, images, monkeypatch):
  # the upsampling of "plain" is one operator of a file, without a gradient
  monkeypatch.setattr(jax.lax, "composite", lambda function, name: lambda x, **_: function(x))
  net = architecture("mobilenetv3_small", head=head, blocks=FEW_BLOCKS, resolution=32, num_classes=3)

  def lowered(**compute):
    model = network(net, Compute(dtype="bfloat16", **compute))

    def loss(params, statistics, x):
      variables = {"params": params, "batch_stats": statistics}
      found, _ = model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
      return sum(leaf.astype("float32").sum() for leaf in jax.tree.leaves(found))

    variables = shapes(model)
    x = jax.ShapeDtypeStruct((images, 32, 32, 3), np.float32)
    traced = jax.jit(jax.grad(loss)).trace(variables["params"], variables["batch_stats"], x)
    return traced.lower(lowering_platforms=("tpu",)).as_text()

  own = lowered(platform="tpu")
  assert own == lowered(formulation="plain") != lowered(platform="cpu")
