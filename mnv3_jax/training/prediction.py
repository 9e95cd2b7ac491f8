"""Predictions of a trained network for images."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from PIL import Image

from mnv3_jax.data.transforms.decoding import open_image
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks.base import Prediction
from mnv3_jax.training.trained import resolve
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from mnv3_jax.runs.run import Run
  from mnv3_jax.training.trained import TrainedRun

  AnyRun = TrainedRun | Run | PathLike


@overload
def predict(
  run: "AnyRun",
  images: PathLike | Image.Image,
  *,
  weights: str = "ema",
  top: int | None = None,
  out: PathLike | None = None,
) -> Prediction: ...
@overload
def predict(
  run: "AnyRun",
  images: Sequence[PathLike | Image.Image],
  *,
  weights: str = "ema",
  top: int | None = None,
  out: PathLike | None = None,
) -> list[Prediction]: ...


def predict(
  run: "AnyRun",
  images: PathLike | Image.Image | Sequence[PathLike | Image.Image],
  *,
  weights: str = "ema",
  top: int | None = None,
  out: PathLike | None = None,
) -> Prediction | list[Prediction]:
  """Predicts one image or several.

  Args:
    run: a run, its directory, or what `load` returned.
    images: a path or a PIL image of any size and mode, or a sequence of them.
    weights: "ema", "raw" or "best", where `run` is not loaded yet.
    top: classification: number of classes to name (5).
    out: segmentation: directory for masks and overlays; None writes none.

  Returns:
    A prediction, or a list of them for a sequence: lines(), to_dict(), draw(path); for classification also label, top and
    probabilities, for segmentation mask and shares.

  Raises:
    UsageError: for a file that is no image, or an option that the task does not have.
  """
  if top is not None and top < 1:
    raise UsageError(f"invalid top={top!r}; expected a whole number of at least 1")
  is_single = isinstance(images, str | os.PathLike | Image.Image)
  listed = [images] if is_single else list(images)
  decoded: dict[str, Image.Image] = {}
  for i, image in enumerate(listed):
    if isinstance(image, Image.Image):
      name, opened = getattr(image, "filename", "") or f"image {i}", image
    else:
      name, opened = str(image), open_image(image)
    while name in decoded:
      name = f"{name} ({i})"
    decoded[name] = opened
  if not decoded:
    return []
  trained = resolve(run, weights)
  predictions = trained.job.task.predict_images(trained, decoded, top=top, out=out)
  return predictions[0] if is_single else list(predictions)
