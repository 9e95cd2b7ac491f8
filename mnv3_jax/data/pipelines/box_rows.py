"""Rows of boxes in batches: a fixed number per image, of which the last are padding."""

import dataclasses

import numpy as np

from mnv3_jax.data.transforms.annotations import Annotations, from_rows
from mnv3_jax.data.transforms.box_policies import View

# label of a row without a box
PADDING = -1


def empty_rows(n: int, max_boxes: int) -> dict[str, np.ndarray]:
  """Returns "boxes" (n, max_boxes, 4) float32, "label" (n, max_boxes) int32 and "crowd" (n, max_boxes) bool, all padding."""
  return {
    "boxes": np.zeros((n, max_boxes, 4), np.float32),
    "label": np.full((n, max_boxes), PADDING, np.int32),
    "crowd": np.zeros((n, max_boxes), bool),
  }


def empty_eval_rows(n: int, max_boxes: int) -> dict[str, np.ndarray]:
  """Returns `empty_rows` and "area" (n, max_boxes) and "size" (n, 2) float32 in pixels, "number" (n,) int32, -1 for padding."""
  return {
    **empty_rows(n, max_boxes),
    "area": np.zeros((n, max_boxes), np.float32),
    "size": np.zeros((n, 2), np.float32),
    "number": np.full(n, -1, np.int32),
  }


def write_rows(batch: dict[str, np.ndarray], row: int, view: View) -> None:
  """Writes the boxes of a view as a row of a batch: of more than max_boxes, the largest."""
  chosen = view.annotations.largest(batch["label"].shape[1])
  n = len(chosen)
  batch["boxes"][row, :n] = dataclasses.replace(view, annotations=chosen).shares()
  batch["label"][row, :n] = chosen.labels
  batch["crowd"][row, :n] = chosen.crowd
  if "area" in batch:
    batch["area"][row, :n] = chosen.area


def rows_of(batch: dict[str, np.ndarray], i: int) -> Annotations:
  """Returns the boxes of example `i` of a batch, in shares of the image."""
  n = int((batch["label"][i] != PADDING).sum())
  return from_rows(batch["boxes"][i, :n], batch["label"][i, :n], batch["crowd"][i, :n])
