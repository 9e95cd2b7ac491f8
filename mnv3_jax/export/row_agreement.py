"""Agreement of an exported network with Flax row by row: finds the first row that departs."""

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Num

from mnv3_jax.architectures import rows
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.export import graph
from mnv3_jax.export.equalization import LARGEST
from mnv3_jax.export.quantize import CALIBRATED
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.models import inference
from mnv3_jax.tasks.agreement import snr
from mnv3_jax.types import PathLike, Variables

# signal-to-noise ratio of the stem's map in decibels, where nothing is wrong
STEM_DB = {"none": 130.0, "float16": 73.0, "int8_weights": 46.0, "int8": 40.0, "int8_integer": 40.0}


def compared_rows(
  content: bytes,
  model: nn.Module,
  variables: Variables,
  inputs: Num[np.ndarray, "n h w c"],
  images: Float[np.ndarray, "n h w c"],
  *,
  quantization: str,
  fused: bool,
) -> dict[str, float]:
  """Computes the decibels of each row that can be compared, as `by_row`, on as many images as memory has room for."""
  # every map of every row is kept
  n = inference.images_per_step(model.net, 4)
  found = by_row(content, model, variables, inputs[:n], images[:n], equalized=quantization in CALIBRATED)
  left_out = [] if fused else _unfused_rows(model.net)
  return {row: db for row, db in found.items() if row not in left_out}


def first_departure(found: Mapping[str, float], quantization: str) -> str:
  """Names the row that departs first: every row loses a few decibels, a wrong one far more than those before it.

  Args:
    found: decibels of the rows (compared_rows).
    quantization: quantization of the file.
  """
  # a map that is not finite has lost everything
  found = {row: db if np.isfinite(db) else -np.inf for row, db in found.items()}
  before = dict(zip(found, [STEM_DB[quantization], *found.values()], strict=False))
  first = max(found, key=lambda row: before[row] - found[row] if np.isfinite(before[row]) else 0)
  return f"{first} departs first (from {before[first]:.0f} to {found[first]:.1f} dB of its map)"


def losses(found: Mapping[str, float], quantization: str) -> dict[str, float]:
  """Returns by how many decibels each row's map is worse than that of the row before it; negative where it is better.

  A row after one that stays in float loses what is missing from STEM_DB.
  """
  highest = STEM_DB[quantization]
  return {row: min(found[before], highest) - found[row] for before, row in itertools.pairwise(found)}


def text(found: Mapping[str, float], quantization: str, most: int = 3) -> str:
  """Formats how much is left of the last row's map, and the rows that lose most."""
  worst = sorted(losses(found, quantization).items(), key=lambda item: -item[1])[:most]
  lost = ", ".join(f"{row} {db:.1f} dB" for row, db in worst if db > 0)
  last = list(found)[-1]
  return f"{found[last]:.1f} dB are left of {last}'s map" + (f"; most is lost by {lost}" if lost else "")


def draw(found: Mapping[str, float], path: PathLike, title: str) -> None:
  """Draws the decibels of each row's map as bars."""
  from mnv3_jax.report import paper_plots

  values = {"signal to noise": list(found.values())}
  paper_plots.bars_panels([(tuple(found), values, "signal to noise of the row's map, dB")], path, title)


def by_row(
  content: bytes,
  model: nn.Module,
  variables: Variables,
  inputs: Num[np.ndarray, "n h w c"],
  images: Float[np.ndarray, "n h w c"],
  equalized: bool = False,
) -> dict[str, float]:
  """Computes the signal-to-noise ratio of each row's map.

  Args:
    content: bytes of the file.
    model: module of the network.
    variables: of it.
    inputs: of the file, (n, height, width, channels).
    images: the same as the module takes them.
    equalized: whether the file's channels may be multiples of the module's (export/equalization.py).

  Returns:
    {row: decibels}, in the order of the data.
  """
  operators, head = graph.operators(content), rows.convolutions(model.net)
  last = {op.row: op.output for op in operators}
  # the last convolution of a row of the head, before what follows it
  last |= {op.row: op.output for op in operators if op.row in head and op.type == "CONV_2D"}
  expected = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
  expected = {**expected, **_head_maps(model, variables, images, head)}
  file = _without_delegate(content)
  found: dict[str, list[np.ndarray]] = {row: [] for row in last if row in expected}
  for x in inputs:
    file(x[None])
    for row, parts in found.items():
      parts.append(file.tensor(last[row]))
  maps = {row: np.concatenate(parts) for row, parts in found.items()}
  if equalized:
    maps = {row: _without_factors(np.asarray(expected[row]), each) for row, each in maps.items()}
  # a predictor of boxes gives its map as rows of anchors, in the same order
  return {row: snr(np.asarray(expected[row]).reshape(each.shape), each) for row, each in maps.items()}


def _without_factors(expected: Float[np.ndarray, "..."], found: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
  """Divides each channel of a map by the factor by which it is larger than expected, at least 1."""
  axes = tuple(range(found.ndim - 1))
  ours, theirs = expected.reshape(found.shape).astype(np.float64), found.astype(np.float64)
  factors = (ours * theirs).sum(axes) / np.maximum(np.square(ours).sum(axes), 1e-12)
  return theirs / factors.clip(1, LARGEST)


def _head_maps(
  model: nn.Module, variables: Variables, images: Float[np.ndarray, "n h w c"], head: tuple[str, ...]
) -> dict[str, Any]:
  """Computes the maps of a head's rows by name."""

  def run(v: Variables, x: jax.Array) -> Any:
    return model.apply(v, x, capture_intermediates=lambda module, _: module.name in head, mutable=["intermediates"])[1]

  found = jax.jit(run)(variables, images).get("intermediates", {})
  return {row: maps["__call__"][0] for row, maps in found.items() if row in head}


def _unfused_rows(architecture: Architecture) -> list[str]:
  """Names the rows that end with h-swish: unfused, their last operator gives six times as much."""
  ends = (("stem", architecture.stem), ("features", architecture.features))
  return [name for name, row in ends if row is not None and row.activation == "hard_swish"]


def _without_delegate(content: bytes) -> TFLiteModel:
  """Loads a file that keeps every tensor, without XNNPACK, which fuses them."""
  with warnings.catch_warnings():
    # memory is no concern for a few images
    warnings.simplefilter("ignore", UserWarning)
    return TFLiteModel(content, transparent=True)
