"""Contestant of speed.py: the same networks in stock Flax layers, nn.Conv and nn.BatchNorm."""

import jax
import numpy as np
import optax
import protocol
from ours import random_batch
from stock_network import StockNetwork

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.commands.options import start_jax


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
