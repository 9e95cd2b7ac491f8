"""Contestant of speed.py: the same networks in stock Flax layers, nn.Conv and nn.BatchNorm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import protocol
from jaxtyping import Array, Float
from ours import random_batch

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.commands.options import start_jax
from mnv3_jax.models.activations import FUNCTIONS


class StockNetwork(nn.Module):
  """Linen module of an Architecture in stock layers."""

  net: Architecture
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b classes"]:
    net = self.net

    def conv(x, features, kernel, stride, groups, activation):
      x = nn.Conv(features, (kernel, kernel), stride, feature_group_count=groups, use_bias=False, dtype=self.dtype)(x)
      norm = nn.BatchNorm(not train, momentum=net.bn_momentum, epsilon=net.bn_epsilon, dtype=self.dtype)
      return FUNCTIONS[activation](norm(x))

    x = conv(x, net.stem.filters, net.stem.kernel, net.stem.stride, 1, net.stem.activation)
    for _, channels, b in net.rows():
      inputs = x
      if b.expand != channels:
        x = conv(x, b.expand, 1, 1, 1, b.activation)
      x = conv(x, b.expand, b.kernel, b.stride, b.expand, b.activation)
      if b.se is not None:
        s = x.mean((1, 2), keepdims=True)
        s = nn.relu(nn.Conv(b.se.channels(channels, b.expand), (1, 1), dtype=self.dtype)(s))
        x = x * FUNCTIONS[b.se.gate](nn.Conv(b.expand, (1, 1), dtype=self.dtype)(s))
      x = conv(x, b.out, 1, 1, 1, b.project_activation)
      x = inputs + x if b.adds_input(channels) else x
    if net.features is not None:
      x = conv(x, net.features.filters, 1, 1, 1, net.features.activation)
    x = x.mean((1, 2))
    if net.head.hidden is not None:
      x = FUNCTIONS[net.head.activation](nn.Dense(net.head.hidden, dtype=self.dtype)(x))
    x = nn.Dropout(net.head.dropout)(x, deterministic=not train)
    return nn.Dense(net.num_classes, dtype=self.dtype)(x).astype(jnp.float32)


def main() -> None:
  """Runs the contestant."""
  case = protocol.read_case()
  start_jax()
  model = StockNetwork(architecture(case["network"], resolution=case["resolution"]), case["dtype"])
  batch = jax.device_put(random_batch(case))
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch["image"][:1])
  rng = np.random.default_rng(0)
  variables = jax.device_put(jax.tree.map(lambda s: np.abs(rng.normal(0, 0.05, s.shape)).astype(np.float32), shapes))
  about = {"params": sum(x.size for x in jax.tree.leaves(shapes["params"])), "versions": {"jax": jax.__version__}}
  if case["kind"] == "inference":
    apply, last = jax.jit(model.apply), []
    protocol.serve(
      lambda: last.__setitem__(slice(None), [apply(variables, batch["image"])]), lambda: jax.block_until_ready(last), **about
    )
    return
  rule = optax.chain(optax.add_decayed_weights(1e-5), optax.rmsprop(1e-3, 0.9, 1e-3, initial_scale=1.0, momentum=0.9))

  @jax.jit
  def update(variables, state, key, batch):
    def loss_of(params):
      logits, changed = model.apply(
        {"params": params, "batch_stats": variables["batch_stats"]},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
      )
      return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), changed

    gradient, changed = jax.grad(loss_of, has_aux=True)(variables["params"])
    updates, state = rule.update(gradient, state, variables["params"])
    return {"params": optax.apply_updates(variables["params"], updates), **changed}, state, jax.random.split(key)[0]

  carried = [variables, jax.jit(rule.init)(variables["params"]), jax.random.key(0)]
  protocol.serve(
    lambda: carried.__setitem__(slice(None), update(*carried, batch)), lambda: jax.block_until_ready(carried[0]), **about
  )


if __name__ == "__main__":
  main()
