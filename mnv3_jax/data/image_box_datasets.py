"""Data sets of images with boxes: embedded scenes, COCO's format, Pascal VOC's, TensorFlow Datasets."""

import functools
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.architectures import sizes
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.image_box_files import ImageBoxFiles
from mnv3_jax.data.pipelines.scene_boxes import SceneBoxes
from mnv3_jax.data.scene_settings import checked, scene_splits
from mnv3_jax.data.settings import data_dir, shared_settings
from mnv3_jax.data.sources import coco, coco_classes, fashion_mnist, scenes, splits, tfds_boxes, voc_boxes
from mnv3_jax.data.sources.base import ImageBoxSource
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Size

# a name that ends in a slash stands for all that begin with it
TFDS = "tfds/"
NAMES = ("scenes", "coco", "voc", TFDS)


def open_dataset(config: ConfigDict, resolution: Size, *, resize: str = "half_pixel", host: int = 0, hosts: int = 1) -> Dataset:
  """Opens the data set of a config.

  Args:
    config: complete; config.data.dataset is one of NAMES.
    resolution: of the images, which are stretched to it.
    resize: one of stretch.RESIZES.
    host, hosts: index and number of processes that share each batch.

  Raises:
    UsageError: for an unknown split or class, or a setting that the data set does not have.
  """
  data, shared = config.data, shared_settings(config, resolution, host, hosts)
  for field in ("train_size", "train_width"):
    if data[field]:
      raise UsageError(
        f"invalid config.data.{field}={data[field]!r} for images with boxes, which have the network's resolution"
      )
  if data.interpolation not in (None, "bilinear"):
    raise UsageError(f"invalid config.data.interpolation={data.interpolation!r} for images with boxes; expected 'bilinear'")
  shared.update(resize=resize, max_boxes=data.max_boxes)
  return _open_scenes(data, shared) if data.dataset == "scenes" else _open_files(data, shared)


def class_names(config: ConfigDict) -> tuple[str, ...]:
  """Returns config.data.classes, completed from the data set where only that knows them; () for those of scenes and VOC.

  Raises:
    UsageError: if the data set is missing, and is not COCO's own with config.data.fake.
  """
  data = config.data
  if data.classes or data.dataset in ("scenes", "voc"):
    return tuple(data.classes)
  if data.fake and _published(data):
    return coco_classes.CLASSES
  if data.dataset == "coco":
    return coco.class_names(data_dir(data), data.train_split)
  return tfds_boxes.class_names(_builder(data))


def num_train_examples(config: ConfigDict, dataset: Dataset) -> int:
  """Returns the number of training examples, published for COCO's train2017."""
  return coco.NUM_TRAIN if _published(config.data) else dataset.num_train_examples


def _published(data: ConfigDict) -> bool:
  """Tells whether the training split is COCO's own, whose files are not there."""
  return data.dataset == "coco" and not data.dir and data.train_split in ("train", "train2017")


def _open_files(data: ConfigDict, shared: dict[str, Any]) -> ImageBoxFiles:
  if len(set(data.classes)) < len(data.classes):
    raise UsageError("invalid config.data.classes; it has a class twice")
  for name in (data.train_split, data.eval_split):
    splits.parse_split(name)
  size = sizes.sides(shared.pop("resolution"))
  classes = tuple(data.classes) or (voc_boxes.CLASSES if data.dataset == "voc" else ())

  def open_split(name: str) -> ImageBoxSource:
    if data.dataset == "coco":
      return coco.open_split(data_dir(data), name, classes)
    if data.dataset == "voc":
      return voc_boxes.open_split(data_dir(data), name, classes)
    return tfds_boxes.TFDSBoxes(_builder(data), name, classes)

  splits_ = functools.partial(open_split, data.train_split), functools.partial(open_split, data.eval_split)
  dataset = ImageBoxFiles(classes, *splits_, size, **shared)
  # parses data.augment now, not with the first batch
  _ = dataset.policy
  return dataset


def _builder(data: ConfigDict) -> Any:
  return tfds_boxes.open_builder(data.dataset.removeprefix(TFDS), data_dir(data))


def _open_scenes(data: ConfigDict, shared: dict[str, Any]) -> Dataset:
  if data.max_boxes < scenes.SEVERAL.items[1]:
    raise UsageError(f"invalid config.data.max_boxes={data.max_boxes}; scenes have up to {scenes.SEVERAL.items[1]} items")
  return checked(SceneBoxes(*scene_splits(data, shared, fashion_mnist.CLASSES), **shared))
