"""Data sets of images with masks: embedded scenes, Cityscapes, Pascal VOC."""

import functools
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.architectures import sizes
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.image_mask_files import ImageMaskFiles
from mnv3_jax.data.pipelines.scene_masks import SceneMasks
from mnv3_jax.data.scene_settings import checked, scene_splits
from mnv3_jax.data.settings import data_dir, shared_settings
from mnv3_jax.data.sources import cityscapes, scenes, splits, voc
from mnv3_jax.data.sources.base import ImageMaskSource
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Size

NAMES = ("scenes", "cityscapes", "voc")


def open_dataset(config: ConfigDict, resolution: Size, *, host: int = 0, hosts: int = 1) -> Dataset:
  """Opens the data set of a config.

  Args:
    config: complete; config.data.dataset is one of NAMES.
    resolution: of evaluation images; training crops have config.data.train_size.
    host, hosts: index and number of processes that share each batch.

  Raises:
    UsageError: for an unknown split or class, or a setting that the data set does not have.
  """
  data, shared = config.data, shared_settings(config, resolution, host, hosts)
  if data.train_width and not data.train_size:
    raise UsageError(f"invalid config.data.train_width={data.train_width!r}; expected config.data.train_size, the height, too")
  return _open_scenes(data, shared) if data.dataset == "scenes" else _open_files(data, shared)


def num_train_examples(config: ConfigDict, dataset: Dataset) -> int:
  """Returns the number of training examples, published for Cityscapes."""
  return cityscapes.NUM_TRAIN if config.data.dataset == "cityscapes" else dataset.num_train_examples


def _open_files(data: ConfigDict, shared: dict[str, Any]) -> ImageMaskFiles:
  size = sizes.sides(shared.pop("resolution"))
  crop = (data.train_size, data.train_width or data.train_size) if data.train_size else size
  if data.dataset == "voc":
    classes = tuple(data.classes) or voc.CLASSES
    open_source = functools.partial(voc.open_split, classes=classes)
  else:
    classes, open_source = cityscapes.CLASSES, cityscapes.open_split
    if data.classes and tuple(data.classes) != classes:
      raise UsageError("invalid config.data.classes for cityscapes; expected its own 19 classes: leave it empty")
  for name in (data.train_split, data.eval_split):
    splits.parse_split(name)

  def open_split(name: str) -> ImageMaskSource:
    return open_source(data_dir(data), split=name)

  splits_ = functools.partial(open_split, data.train_split), functools.partial(open_split, data.eval_split)
  dataset = ImageMaskFiles(classes, *splits_, size, crop, **shared)
  # parses data.augment now, not with the first batch
  _ = dataset.crops
  return dataset


def _open_scenes(data: ConfigDict, shared: dict[str, Any]) -> Dataset:
  return checked(SceneMasks(*scene_splits(data, shared, scenes.CLASSES), **shared))
