"""Data sets of labelled images: embedded Fashion-MNIST and scenes of it, class folders, ImageNet, TensorFlow Datasets."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from PIL import Image

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.image_files import ImageFiles
from mnv3_jax.data.pipelines.in_memory import Arrays, InMemoryImages
from mnv3_jax.data.pipelines.scene_labels import SceneLabels
from mnv3_jax.data.scene_settings import checked, scene_splits
from mnv3_jax.data.settings import check_batch_size, data_dir, shared_settings
from mnv3_jax.data.sources import class_folders, fashion_mnist, folder, imagenet, poses, scenes, splits, tfds
from mnv3_jax.data.sources.base import ImageSource
from mnv3_jax.data.transforms import augment
from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike, Size

NAMES = ("fashion_mnist", "poses", "scenes", "folder", "imagenet", "tfds/")


def class_names(config: ConfigDict) -> tuple[str, ...]:
  """Returns config.data.classes, completed from the data set where only that knows them.

  Raises:
    UsageError: if the data set is missing.
  """
  data = config.data
  if data.classes or data.dataset in ("fashion_mnist", "poses", "scenes", "imagenet"):
    return tuple(data.classes)
  if data.dataset != "folder":
    return tfds.class_names(_builder(data))
  if not data.dir:
    raise UsageError("config.data.dataset='folder' needs config.data.dir, a directory with train/CLASS/IMAGE.jpg in it")
  found = _train_folders(data)
  if not found:
    raise UsageError(
      f"no class folders for config.data.train_split={data.train_split!r} in {data.dir!r}; expected CLASS/IMAGE.jpg"
    )
  return found


def open_dataset(config: ConfigDict, resolution: Size, *, host: int = 0, hosts: int = 1) -> Dataset:
  """Opens the data set of a config.

  Args:
    config: complete; config.data.dataset is fashion_mnist, poses, scenes, imagenet, folder, or a data set of TFDS ("tfds/NAME"
      also where TFDS has one of these names).
    resolution: of the images.
    host, hosts: index and number of processes that share each batch.

  Raises:
    UsageError: for an unknown data set, split or class.
  """
  data, shared = config.data, shared_settings(config, resolution, host, hosts)
  for field in ("train_size", "train_width"):
    if data[field]:
      raise UsageError(f"invalid config.data.{field}={data[field]!r} for labelled images, which have the network's resolution")
  open_ = {"fashion_mnist": _open_embedded, "poses": _open_poses, "scenes": _open_scenes}.get(data.dataset, _open_files)
  return open_(data, shared)


def num_train_examples(config: ConfigDict, dataset: Dataset) -> int:
  """Returns the number of training examples, published for ImageNet."""
  return imagenet.NUM_TRAIN if config.data.dataset == "imagenet" else dataset.num_train_examples


def _open_embedded(data: ConfigDict, shared: dict[str, Any]) -> InMemoryImages:
  # checks the name now
  augment.get_policy(data.augment)
  _check_embedded(data)
  chosen = _labels(fashion_mnist.CLASSES, data.classes)
  dataset = InMemoryImages(
    train=_of_classes(fashion_mnist.load(data.train_split), chosen),
    test=_of_classes(fashion_mnist.load(data.eval_split), chosen),
    classes=tuple(fashion_mnist.CLASSES[i] for i in chosen),
    **shared,
  )
  check_batch_size(dataset.batch_size, len(dataset.train[0]), "training images")
  if not len(dataset.test[0]):
    raise UsageError(f"invalid config.data.eval_split={data.eval_split!r}; none of its images is of config.data.classes")
  return dataset


def _open_poses(data: ConfigDict, shared: dict[str, Any]) -> InMemoryImages:
  _check_embedded(data)
  if data.augment != "none":
    raise UsageError(f"invalid config.data.augment={data.augment!r} for poses; expected 'none': every epoch has new poses")
  if data.classes and tuple(data.classes) != fashion_mnist.CLASSES:
    raise UsageError(f"invalid config.data.classes for poses; leave it empty: {', '.join(fashion_mnist.CLASSES)}")
  test, params = poses.load_test(data.eval_split)
  shared = {**shared, "augment": poses.POLICY}
  train = fashion_mnist.load(data.train_split)
  check_batch_size(shared["batch_size"], len(train[0]), "training images")
  return InMemoryImages(train=train, test=test, classes=fashion_mnist.CLASSES, test_params=params, **shared)


def _check_embedded(data: ConfigDict) -> None:
  if data.dir:
    raise UsageError(f"invalid config.data.dir={data.dir!r} for {data.dataset}, which is embedded; it is for other data sets")


def _open_scenes(data: ConfigDict, shared: dict[str, Any]) -> Dataset:
  return checked(SceneLabels(*scene_splits(data, shared, fashion_mnist.CLASSES, scenes.SINGLE), **shared))


def _open_files(data: ConfigDict, shared: dict[str, Any]) -> ImageFiles:
  if data.dataset == "folder" or (data.dataset == "imagenet" and not _in_tfds(data)):
    classes, folders = _folders(data)

    def open_split(name: str) -> ImageSource:
      if not data.dir:
        raise UsageError(
          f"config.data.dataset={data.dataset!r} needs config.data.dir: a directory with one folder per split, each with one "
          "folder per class"
          + (" (or that of TFDS, with imagenet2012)" if data.dataset == "imagenet" else "")
          + "; evaluate takes data=DIR, one folder per class"
        )
      return folder.open_split(data_dir(data), name, classes, folders, _other_folders(data))

    def open_train(name: str) -> ImageSource:
      source = open_split(name)
      if data.dataset == "folder":
        folder.check_every_class(source, folders)
      return source

    return _image_files(data, classes, open_train, open_split, shared)
  if data.dataset == "imagenet":
    classes = imagenet.classes()
    if data.classes and tuple(data.classes) != classes:
      raise UsageError("invalid config.data.classes for TFDS's imagenet2012; expected none: it selects among folders")
    names = imagenet.ids()
  else:
    classes = names = tuple(data.classes) or tfds.class_names(_builder(data))

  def open_records(name: str) -> ImageSource:
    return tfds.TFDSImages(_builder(data), name, names)

  return _image_files(data, classes, open_records, open_records, shared)


def _image_files(
  data: ConfigDict,
  classes: tuple[str, ...],
  open_train: Callable[[str], ImageSource],
  open_test: Callable[[str], ImageSource],
  shared: dict[str, Any],
) -> ImageFiles:
  splits.parse_split(data.train_split)
  splits.parse_split(data.eval_split)
  return ImageFiles(
    classes, functools.partial(open_train, data.train_split), functools.partial(open_test, data.eval_split), **shared
  )


def _in_tfds(data: ConfigDict) -> bool:
  # a bucket has no class folders that could be listed
  return "://" in data.dir or (bool(data.dir) and pathlib.Path(os.path.expanduser(data.dir), "imagenet2012").is_dir())


def _builder(data: ConfigDict) -> Any:
  name = "imagenet2012" if data.dataset == "imagenet" else data.dataset.removeprefix("tfds/")
  return tfds.image_builder(name, data_dir(data))


def _folders(data: ConfigDict) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
  """Returns class names, and the names that each class's folder may have."""
  if data.dataset == "folder":
    classes = tuple(data.classes[i] for i in _labels(tuple(data.classes), data.classes))
    return classes, class_folders.folder_names(classes)
  chosen = _labels(imagenet.classes(), data.classes)
  return tuple(imagenet.classes()[i] for i in chosen), tuple(imagenet.folders()[i] for i in chosen)


def _other_folders(data: ConfigDict) -> tuple[str, ...]:
  """Returns the names of folders that a split may have beside those of the classes: those left out of the training split."""
  if data.dataset == "imagenet":
    return tuple(name for names in imagenet.folders() for name in names) if data.classes else ()
  try:
    return _train_folders(data)
  except UsageError:
    # evaluation needs no training split
    return ()


def _train_folders(data: ConfigDict) -> tuple[str, ...]:
  name, _ = splits.parse_split(data.train_split)
  return tuple(f.name for f in class_folders.class_folders(class_folders.split_folder(data_dir(data), name)))


def open_folder(root: PathLike, like: Dataset) -> Dataset:
  """Opens class folders as test examples for a network trained on the data set `like`, preprocessed as that one."""
  ids = dict(zip(imagenet.classes(), imagenet.folders(), strict=True))
  of_imagenet = like.classes and set(like.classes) <= ids.keys()
  folders = tuple(ids[name] for name in like.classes) if of_imagenet else class_folders.folder_names(like.classes)
  open_test = functools.partial(folder.Folder, root, like.classes, folders)
  if isinstance(like, ImageFiles):
    return dataclasses.replace(like, open_test=open_test)
  return PreprocessedAs(like.classes, open_test, open_test, like.resolution, like=like)


@dataclasses.dataclass(frozen=True, eq=False)
class PreprocessedAs(ImageFiles):
  """Images in files, preprocessed as another data set's.

  Attributes:
    like: that data set.
  """

  like: Dataset = dataclasses.field(kw_only=True)

  def preprocess(self, image: Image.Image) -> Float[np.ndarray, "h w 3"]:
    return self.like.preprocess(image)


def _labels(classes: Sequence[str], names: Sequence[str]) -> list[int]:
  """Returns the labels of `names` in a data set's classes; all labels for no names."""
  for name in names:
    if name not in classes:
      raise UsageError(f"invalid class {name!r} in config.data.classes; {nearest(name, classes)}")
  if len(set(names)) < len(names):
    raise UsageError("invalid config.data.classes; it has a class twice")
  return [classes.index(name) for name in names] or list(range(len(classes)))


def _of_classes(split: Arrays, chosen: list[int]) -> Arrays:
  """Selects the (images, labels) of some labels, which become 0, 1, ..."""
  images, labels = split
  if chosen == list(range(int(labels.max()) + 1)):
    return split
  new = np.full(max(labels.max(), max(chosen)) + 1, -1, np.int32)
  new[chosen] = np.arange(len(chosen))
  kept = new[labels] >= 0
  return images[kept], new[labels[kept]]
