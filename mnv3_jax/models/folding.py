"""Batch norm folded into the kernels before it, for inference."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jax import lax

from mnv3_jax.types import Variables


def fold_batch_norm(model: nn.Module, variables: Variables) -> tuple[nn.Module, Variables]:
  """Folds batch norm into the kernels before it: each layer is then a convolution and a bias, as in a .tflite file.

  The outputs stay the same up to float32 rounding (about 1e-6 of the largest). Both results are for inference alone:

    model, variables = mnv3_jax.fold_batch_norm(*mnv3_jax.create_model("mobilenetv3_small"))
    logits = jax.jit(model.apply)(variables, images)

  Args:
    model: a network of `create_model` or of a run; one that is folded already stays as it is.
    variables: {"params", "batch_stats"} of it. May be traced: within jax.jit it is folded at every call.

  Returns:
    (model, variables): the network without batch norm, and its variables. A kernel (..., channels) is multiplied by
    scale / sqrt(var + epsilon) of its output channel; bias (channels,) is bias - mean * that.

  Raises:
    TypeError: for a module that is no network of this library.
  """
  network: Any = model
  if not hasattr(network, "compute"):
    raise TypeError(f"invalid model of type {type(model).__name__}; expected a network of create_model or of a run")
  if network.compute.folded:
    return model, variables
  net, params, statistics = network.net, {}, dict(variables["batch_stats"])
  for name, values in variables["params"].items():
    # a head may have an epsilon of its own
    epsilon = net.bn_epsilon if name == "backbone" else getattr(net.head, "bn_epsilon", net.bn_epsilon)
    params[name], below = _folded(values, statistics.get(name, {}), epsilon)
    if name in statistics:
      statistics[name] = below
  folded = model.clone(compute=dataclasses.replace(network.compute, folded=True))
  return folded, {**variables, "params": params, "batch_stats": statistics}


def _folded(params: Mapping[str, Any], statistics: Mapping[str, Any], epsilon: float) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the parameters and statistics of a module with those of its "bn", and of those below it, folded."""
  found, kept = {}, {name: values for name, values in statistics.items() if name != "bn"}
  for name, values in params.items():
    if name == "bn" or not isinstance(values, Mapping):
      continue
    found[name], below = _folded(values, statistics.get(name, {}), epsilon)
    if name in kept:
      kept[name] = below
  own = {name: values for name, values in params.items() if not isinstance(values, Mapping)}
  if "bn" in params:
    norm, moments = params["bn"], statistics["bn"]
    factor = norm["scale"] * lax.rsqrt(moments["var"] + epsilon)
    own = {"kernel": own["kernel"] * factor, "bias": norm["bias"] - moments["mean"] * factor}
  return found | own, kept
