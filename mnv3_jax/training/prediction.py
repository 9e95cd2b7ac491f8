"""Predictions of a trained network for images."""

import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from PIL import Image

from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded
from mnv3_jax.tasks.base import Prediction
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.training.prediction_images import AnyImage, NamedImage, Readable, is_single, named_images
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from mnv3_jax.runs.run import Run
  from mnv3_jax.training.trained import TrainedRun

  AnyRun = TrainedRun | Run | PathLike


@overload
def predict(  # pyright: ignore[reportOverlappingOverload]: arrays and bytes are iterables, too
  run: "AnyRun",
  images: Image.Image | np.ndarray | bytes | Readable,
  *,
  weights: str = "ema",
  top: int | None = None,
  score: float | None = None,
  out: PathLike | None = None,
  coco_results: PathLike | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> Prediction: ...
# a list for a folder
@overload
def predict(
  run: "AnyRun",
  images: PathLike,
  *,
  weights: str = "ema",
  top: int | None = None,
  score: float | None = None,
  out: PathLike | None = None,
  coco_results: PathLike | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> Any: ...
@overload
def predict(  # pyright: ignore[reportOverlappingOverload]: an iterator is an iterable
  run: "AnyRun",
  images: Iterator[AnyImage],
  *,
  weights: str = "ema",
  top: int | None = None,
  score: float | None = None,
  out: PathLike | None = None,
  coco_results: PathLike | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> Iterator[Prediction]: ...
@overload
def predict(
  run: "AnyRun",
  images: Iterable[AnyImage],
  *,
  weights: str = "ema",
  top: int | None = None,
  score: float | None = None,
  out: PathLike | None = None,
  coco_results: PathLike | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> list[Prediction]: ...


def predict(
  run: "AnyRun",
  images: AnyImage | Iterable[AnyImage],
  *,
  weights: str = "ema",
  top: int | None = None,
  score: float | None = None,
  out: PathLike | None = None,
  coco_results: PathLike | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> Prediction | list[Prediction] | Iterator[Prediction]:
  """Predicts one image or several. Images are decoded one by one: only a batch of network inputs is held in memory.

  Args:
    run: a run, its directory, the name of published weights, or what `load` returned.
    images: a path, a PIL image of any size and mode, an array of pixels (height, width, 3) of uint8, bytes of an image file,
      or a binary file open for reading; a folder, for all images in it at any depth; or a sequence or an iterator of these.
    weights: "ema", "raw" or "best", where `run` is not loaded yet.
    top: classification: number of classes to name (5).
    score: detection: least score of the boxes, from 0 to 1 (0.3).
    out: directory for pictures, of segmentation masks and overlays, of detection boxes; None writes none. Images of a folder
      keep its subdirectories.
    coco_results: detection: file for COCO's results JSON of all images, with boxes of any score. The image ids are the file
      names where all of these are numbers, as in COCO, else 1, 2, ... in order; the category id is 1 + the class, as in COCO.
    on_skipped: called with a sentence about each image that cannot be read, which has no prediction, and about other files in a
      folder. None raises the former and ignores the latter.

  Returns:
    A prediction, a list of them for a sequence or a folder, in order, or an iterator for an iterator: lines(), to_dict(),
    draw(path); for classification also label, top and probabilities, for segmentation mask and shares, for
    detection boxes, labels and scores.

  Raises:
    UsageError: for a file that is no image, an option of another task, two images whose pictures would have one name, or two
      that would have one id in COCO's results.
  """
  if top is not None and top < 1:
    raise UsageError(f"invalid top={top!r}; expected a whole number of at least 1")
  if score is not None and not 0 <= score <= 1:
    raise UsageError(f"invalid score={score!r}; expected a number from 0 to 1")
  single = is_single(images)
  listed = [cast(AnyImage, images)] if single else cast(Iterable[AnyImage], images)
  named = named_images(listed, on_skipped or (lambda message: None))
  if isinstance(listed, Iterator):
    options = {"top": top, "score": score, "out": out, "coco_results": coco_results}
    return predict_each(resolve(run, weights), named, on_skipped=on_skipped, **options)
  named, is_folder = list(named), isinstance(images, str | os.PathLike) and os.path.isdir(expanded(images))
  paths = picture_paths(named, out) if out else None
  if not named:
    return []
  skipped = None if single and not is_folder else on_skipped
  options = {"top": top, "score": score, "out": paths, "coco_results": coco_results}
  trained = resolve(run, weights)
  trained.task.check_names([one.name for one in named], **options)
  predictions = list(predict_each(trained, iter(named), on_skipped=skipped, **options))
  return predictions[0] if single and not is_folder else predictions


def predict_each(
  run: "TrainedRun",
  named: Iterator[NamedImage],
  *,
  top: int | None = None,
  score: float | None = None,
  out: PathLike | Mapping[str, pathlib.Path] | None = None,
  coco_results: PathLike | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> Iterator[Prediction]:
  """Yields predictions one by one.

  Args:
    run: a trained network.
    named: the images.
    top, score, coco_results, on_skipped: as of `predict`.
    out: as of `predict`, or what `picture_paths` returned.
  """

  def decoded() -> Iterator[tuple[str, Image.Image]]:
    for image in named:
      try:
        found = image.decode()
      except UsageError as error:
        if on_skipped is None:
          raise
        on_skipped(str(error))
        continue
      yield image.name, found

  yield from run.task.predict_each(run.folded(), decoded(), top=top, score=score, out=out, coco_results=coco_results)


def picture_paths(named: Sequence[NamedImage], out: PathLike) -> dict[str, pathlib.Path]:
  """Returns the paths of the pictures of predictions, without their endings: DIR/STEM, or DIR/NAME where stems repeat.

  Raises:
    UsageError: if two images have one name, or `out` is a file.
  """
  out = pathlib.Path(expanded(out))
  if out.exists() and not out.is_dir():
    raise UsageError(f"invalid out={str(out)!r}; expected a directory, it is a file")
  files = {one.name: out / one.folder / pathlib.Path(one.name).name for one in named}
  stems = {name: path.with_name(pathlib.Path(name).stem) for name, path in files.items()}
  repeated = Counter(stems.values())
  paths = {name: stem if repeated[stem] == 1 else files[name] for name, stem in stems.items()}
  repeated = Counter(paths.values())
  for one in named:
    stem = stems[one.name].name
    if one.number > 1 or repeated[paths[one.name]] > 1:
      raise UsageError(f"two images are called {stem!r}, and so would be their pictures; predict them into two directories")
  return paths
