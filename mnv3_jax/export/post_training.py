"""Preparation of a float .tflite file for 8 bits, after training, by calibration images.

Channels are equalized, kernels are rounded so that layers keep their outputs, biases are corrected, and each map gets the range
of the least squared error. The prepared file computes what the original does, up to the rounding of its kernels.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Num

from mnv3_jax.export.activation_ranges import best_range
from mnv3_jax.export.calibration import chosen, histograms_and_moments, largest_by_channel
from mnv3_jax.export.equalization import equalize, groups
from mnv3_jax.export.float_graph import FloatGraph
from mnv3_jax.export.rounding import round_layer

# equalization of channels, rounding of kernels with corrected biases, ranges of the least error
STEPS = ("equalize", "round", "ranges")


def prepare(
  content: bytes,
  images: Sequence[Num[np.ndarray, "1 h w c"]],
  exact: Collection[int] = (),
  steps: Collection[str] = STEPS,
) -> tuple[bytes, dict[str, tuple[float, float]]]:
  """Prepares a float file.

  Args:
    content: bytes of the file.
    images: its inputs, (1, height, width, channels) each.
    exact: output tensors of operators whose kernels stay in float.
    steps: of STEPS, those that are taken; without "ranges" maps have their extremes.

  Returns:
    (bytes of the prepared float file, {name of a map: (low, high)}); the graph's outputs have their extremes.
  """
  graph, images = FloatGraph(content), chosen(images)
  maps = sorted(set().union(*groups(graph)))
  if maps and "equalize" in steps:
    equalize(graph, largest_by_channel(graph, images, maps))
  rounded = graph.steps if "round" in steps else []
  layers = [step for step in rounded if step.kernel is not None and step.output not in exact]
  histograms, moments = histograms_and_moments(graph, images, layers)
  for step in layers:
    if step.output in moments:
      round_layer(graph, step, moments[step.output])
  # values of an output beyond its range would be equal, such as the scores of the objects that a detector is most certain of
  many = {i for i in graph.outputs if math.prod(graph.shapes[i][:-1]) > 1}
  extremes = many if "ranges" in steps else set(histograms)
  ranges = {i: (h.low, h.high) if i in extremes else best_range(h) for i, h in histograms.items()}
  return graph.content(), {graph.names[i]: found for i, found in ranges.items()}
