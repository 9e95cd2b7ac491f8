"""Statistics of a float .tflite graph on calibration images: ranges of channels, histograms of maps, moments of inputs."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from mnv3_jax.data.sources.splits import evenly_spaced
from mnv3_jax.export.float_graph import FloatGraph, Step
from mnv3_jax.export.rounding import Moments
from mnv3_jax.export.runtime import TFLiteModel

# images that are used, evenly spaced among those given
IMAGES = 64
# positions of a map at which the inputs of a layer are sampled, in each image
POSITIONS = 256
# inputs of a layer whose second moments are computed
MOST_INPUTS = 2048
BINS = 4096


def chosen(images: Sequence[Num[np.ndarray, "1 h w c"]]) -> list[Num[np.ndarray, "1 h w c"]]:
  """Returns the images that are used."""
  return [images[i] for i in evenly_spaced(len(images), IMAGES)]


def readers_of_maps(graph: FloatGraph, images: Iterable[Num[np.ndarray, "1 h w c"]]) -> Iterator[Callable[[int], np.ndarray]]:
  """Runs the graph on each image; yields functions that return a copy of a tensor, valid until the next one."""
  with warnings.catch_warnings():
    # memory: every map of one image
    warnings.simplefilter("ignore", UserWarning)
    interpreter = TFLiteModel(graph.content(), transparent=True).interpreter
  for image in images:
    interpreter.set_tensor(graph.inputs[0], image)
    interpreter.invoke()
    yield interpreter.get_tensor


def largest_by_channel(
  graph: FloatGraph, images: Iterable[Num[np.ndarray, "1 h w c"]], tensors: Iterable[int]
) -> dict[int, Float[np.ndarray, " _c"]]:
  """Returns the largest absolute value of each channel of maps."""
  found: dict[int, np.ndarray] = dict.fromkeys(tensors, np.zeros(()))
  for read in readers_of_maps(graph, images):
    for i, largest in found.items():
      x = read(i)
      found[i] = np.maximum(largest, np.abs(x).max(tuple(range(x.ndim - 1))))
  return found


@dataclasses.dataclass
class Histogram:
  """Values of a map by bin, each image weighted by the inverse of its mean square.

  So an error counts by its size relative to the image's values, and a range fits most images where a few have values thirty
  times as large as all others.

  Attributes:
    limit: a power of two; the bins lie evenly from -limit to limit.
    weights: of the bins.
    low, high: least and largest value.
  """

  limit: float
  weights: Float[np.ndarray, " bins"]
  low: float
  high: float

  @classmethod
  def empty(cls) -> "Histogram":
    """Returns a histogram without values."""
    return cls(limit=2.0**-20, weights=np.zeros(BINS), low=0.0, high=0.0)

  def add(self, x: Float[np.ndarray, "..."]) -> None:
    """Adds the values of an image."""
    self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
    while self.limit < max(-self.low, self.high):
      # twice the limit: two bins become one, in the middle
      self.limit *= 2
      middle = self.weights.reshape(-1, 2).sum(1)
      self.weights = np.pad(middle, BINS // 4)
    bins = np.minimum(((x.ravel() / self.limit + 1) * (BINS / 2)).astype(np.int32), BINS - 1)
    power = float(np.square(x, dtype=np.float64).sum())
    if power > 0:
      self.weights += np.bincount(bins, minlength=BINS) / power

  @property
  def values(self) -> Float[np.ndarray, " bins"]:
    """Middle of each bin."""
    return ((np.arange(BINS) + 0.5) * 2 / BINS - 1) * self.limit


def histograms_and_moments(
  graph: FloatGraph, images: Sequence[Num[np.ndarray, "1 h w c"]], layers: Sequence[Step]
) -> tuple[dict[int, Histogram], dict[int, Moments]]:
  """Returns the histogram of every float map, by tensor, and the moments of the inputs of layers, by their output tensor."""
  maps = sorted({i for step in graph.steps for i in (*step.inputs, step.output) if i >= 0})
  histograms = {i: Histogram.empty() for i in maps}
  sums: dict[int, list[Any]] = {}
  layers = [step for step in layers if _num_inputs(graph, step) <= MOST_INPUTS]
  for read in readers_of_maps(graph, images):
    for i, histogram in histograms.items():
      x = read(i)
      if x.dtype != np.float32:
        continue
      histogram.add(x)
      for step in (step for step in layers if step.inputs[0] == i):
        sampled = sampled_inputs(graph, step, x)
        own = sampled.mean(-2, dtype=np.float64), np.swapaxes(sampled, -1, -2) @ sampled / np.float64(sampled.shape[-2])
        sums[step.output] = [a + b for a, b in zip(sums.get(step.output, (0.0, 0.0)), own, strict=True)]
  moments = {i: Moments(mean=mean / len(images), second=second / len(images)) for i, (mean, second) in sums.items()}
  return {i: h for i, h in histograms.items() if h.low < h.high}, moments


def sampled_inputs(graph: FloatGraph, step: Step, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "*c n inputs"]:
  """Returns the inputs of a layer at sampled positions of its output: (n, inputs), of a depthwise layer (channels, n, k * k).

  Args:
    graph, step: the layer.
    x: its input map, (1, h, w, c), or (n, c) of a fully connected layer.
  """
  assert step.kernel is not None
  if step.type == "FULLY_CONNECTED":
    return x.reshape(-1, x.shape[-1])
  kernel, options = graph.shapes[step.kernel][1:3], step.options
  strides = options["strideH"], options["strideW"]
  dilations = options["dilationHFactor"], options["dilationWFactor"]
  out = graph.shapes[step.output][1:3]
  # "SAME" is 0, "VALID" 1
  reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
  before = [0, 0]
  if options["padding"] == 0:
    before = [max((o - 1) * s + r - n, 0) // 2 for o, s, r, n in zip(out, strides, reach, x.shape[1:3], strict=True)]
  taken = evenly_spaced(out[0] * out[1], POSITIONS)
  corners = np.unravel_index(taken, out)
  rows, columns = (
    (corner * s - b)[:, None] + np.arange(k) * d
    for corner, s, b, k, d in zip(corners, strides, before, kernel, dilations, strict=True)
  )
  inside = ((rows >= 0) & (rows < x.shape[1]))[:, :, None] & ((columns >= 0) & (columns < x.shape[2]))[:, None]
  found = x[0][rows.clip(0, x.shape[1] - 1)[:, :, None], columns.clip(0, x.shape[2] - 1)[:, None]] * inside[..., None]
  n, channels = len(taken), x.shape[-1]
  if step.type == "DEPTHWISE_CONV_2D":
    return found.reshape(n, -1, channels).transpose(2, 0, 1)
  return found.reshape(n, -1)


def _num_inputs(graph: FloatGraph, step: Step) -> int:
  assert step.kernel is not None
  shape = graph.shapes[step.kernel]
  return int(np.prod(shape[1:3])) if step.type == "DEPTHWISE_CONV_2D" else int(np.prod(shape[1:]))
