"""Rounding of kernels to 8 bits such that the outputs of a layer change least on calibration images.

The nearest integers make each weight's error least, not that of their sum: errors of a layer add up where its inputs go
together. Following Frantar et al., "GPTQ", 2023, weights are rounded one input after the other, and the error of each is made
up for by those that are left, by the second moments of the inputs. What remains of a channel's mean is taken from its bias
(Nagel et al., 2019). `experiments/post_training.py` has the gain of each step on real weights.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from mnv3_jax.export.float_graph import FloatGraph, Step

LARGEST = 127
# added to the second moments, as a share of their mean, so that they have an inverse
DAMPING = 0.01
# inputs that are rounded before those after them are made up for together
BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Moments:
  """Moments of a layer's inputs: all k x k inputs of a depthwise channel, or all channels (of all k x k pixels) of others.

  Attributes:
    mean: mean of each input; a depthwise layer has a leading axis of channels.
    second: mean of the products of each two.
  """

  mean: Float[np.ndarray, "*c n"]
  second: Float[np.ndarray, "*c n n"]


def round_layer(graph: FloatGraph, step: Step, moments: Moments) -> None:
  """Replaces a layer's kernel by multiples of a 127th of each channel's largest weight, and corrects its bias.

  The largest weight of a channel keeps its value, so that a quantizer that rounds to the nearest finds the same integers.
  """
  assert step.kernel is not None
  kernel = graph.constant(step.kernel).astype(np.float64)
  if step.type == "DEPTHWISE_CONV_2D":
    # (1, h, w, c) to (c, h * w, 1)
    weights = kernel[0].reshape(-1, kernel.shape[3]).T[..., None]
    rounded = rounded_to_steps(weights, moments.second)
    shift = ((rounded - weights)[..., 0] * moments.mean).sum(1)
    result = rounded[..., 0].T.reshape(kernel.shape)
  else:
    # (c, ..., inputs) to (inputs, c)
    weights = kernel.reshape(len(kernel), -1).T
    rounded = rounded_to_steps(weights, moments.second)
    shift = (rounded - weights).T @ moments.mean
    result = rounded.T.reshape(kernel.shape)
  graph.replace(step.kernel, result)
  if step.bias is not None:
    graph.replace(step.bias, graph.constant(step.bias) - shift)


def rounded_to_steps(
  weights: Float[np.ndarray, "*c n out"], second: Float[np.ndarray, "*c n n"]
) -> Float[np.ndarray, "*c n out"]:
  """Rounds weights to multiples of each output's step, its largest weight / 127.

  Args:
    weights: of each input and output; leading axes are independent problems.
    second: second moments of the inputs.
  """
  largest = np.abs(weights).max(-2, keepdims=True)
  step = np.where(largest > 0, largest, 1) / LARGEST
  n = weights.shape[-2]
  # the inputs with the largest values first
  order = np.argsort(-np.diagonal(second, axis1=-2, axis2=-1), axis=-1, kind="stable")
  exact = np.take_along_axis(weights, order[..., None], -2)
  moments = np.take_along_axis(np.take_along_axis(second, order[..., None], -2), order[..., None, :], -1)
  damping = DAMPING * np.trace(moments, axis1=-2, axis2=-1) / n + 1e-12
  inverse = np.linalg.inv(moments + damping[..., None, None] * np.eye(n))
  # row i: by how much the error of input i is made up for by those after it
  made_up = np.swapaxes(np.linalg.cholesky(inverse), -1, -2)
  w, kept, rounded = exact.copy(), np.abs(exact) == largest, np.empty_like(exact)
  step, errors = step[..., 0, :], np.empty_like(exact)
  for first in range(0, n, BLOCK):
    last = min(first + BLOCK, n)
    for i in range(first, last):
      nearest = np.clip(np.round(w[..., i, :] / step), -LARGEST, LARGEST) * step
      rounded[..., i, :] = np.where(kept[..., i, :], exact[..., i, :], nearest)
      errors[..., i, :] = (w[..., i, :] - rounded[..., i, :]) / made_up[..., i, i, None]
      w[..., i + 1 : last, :] -= made_up[..., i, i + 1 : last, None] * errors[..., i, None, :]
    w[..., last:, :] -= np.swapaxes(made_up[..., first:last, last:], -1, -2) @ errors[..., first:last, :]
  result = np.empty_like(rounded)
  np.put_along_axis(result, order[..., None], rounded, -2)
  return result
