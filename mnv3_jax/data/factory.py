"""Data sets as training and evaluation see them: a stream of batches that starts at any step, and exact evaluation batches."""

import dataclasses
import functools
import pathlib

import numpy as np

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.pipelines.fake import Fake
from mnv3_jax.data.pipelines.image_files import ImageFiles
from mnv3_jax.data.pipelines.image_mask_files import ImageMaskFiles
from mnv3_jax.data.pipelines.in_memory import InMemoryImages
from mnv3_jax.data.pipelines.scene_masks import SceneMasks
from mnv3_jax.data.sources import cityscapes, fashion_mnist, folder, imagenet, scenes, splits, tfds, voc
from mnv3_jax.data.transforms import augment, preprocessing
from mnv3_jax.errors import UsageError

# data sets with a class for every pixel
DENSE = ("scenes", "cityscapes", "voc")


def complete(config):
  """The names of the classes: as config.data has them, or from its data set where that alone knows them.

  Raises:
    UsageError: if the data set is not there.
  """
  data = config.data
  if data.classes or data.dataset in ("fashion_mnist", "imagenet", *DENSE):
    return tuple(data.classes)
  if data.dataset != "folder":
    return tfds.class_names(_builder(data))
  if not data.dir:
    raise UsageError("config.data.dataset = 'folder' goes with config.data.dir, which has train/CLASS/photo.jpg in it")
  name, _ = splits.cut(data.train_split)
  return tuple(f.name for f in folder.class_folders(folder.place(data.dir, name)))


def recall(config, sections):
  """Gives a config the names of the classes that `complete` found when the run with the config `sections` began."""
  then = sections.get("data", {})
  if not config.data.classes and all(then.get(name) == config.data[name] for name in ("dataset", "dir", "train_split")):
    config.data.classes = tuple(then.get("classes", ()))


def open_dataset(config, resolution, *, dense=False, host=0, hosts=1):
  """The data set that a whole config describes, at `resolution` pixels, for this host.

  Names are fashion_mnist, imagenet, folder, and all of TFDS; "tfds/NAME" is TFDS's also where it has one of ours. Those with a
  class for every pixel are DENSE.

  Args:
    config: complete.
    resolution: a size of architectures/sizes.py.
    dense: whether every pixel has a class.
    host, hosts: this process, of how many.

  Raises:
    UsageError: for an unknown data set, split or class, or a batch that the hosts cannot share.
  """
  data, view = config.data, preprocessing.of(config.data)
  shared = {
    "resolution": resolution,
    "augment": data.augment,
    "batch_size": config.train.batch_size,
    "seed": config.train.seed,
    "host": host,
    "hosts": hosts,
    "view": view,
  }
  if dense != (data.dataset in DENSE):
    why = "the network has a segmenter" if dense else "there has to be a segmenter for these: --config.model.segmenter=lr_aspp"
    others = f"; choose {', '.join(DENSE)}" if dense else ""
    raise UsageError(f"config.data.dataset = {data.dataset!r} is not possible; {why}{others}")
  for field in ("train_size", "train_width"):
    if data[field] and not dense:
      raise UsageError(f"config.data.{field} = {data[field]!r} goes with a segmenter; photos are shown at the network's size")
  if data.train_width and not data.train_size:
    raise UsageError(
      f"config.data.train_width = {data.train_width!r} goes with config.data.train_size, which is the height then"
    )
  if dense:
    found, n = _dense(data, shared)
  else:
    found, n = _embedded(data, shared) if data.dataset == "fashion_mnist" else _photographs(data, shared)
  crop = sizes.of(data.train_size, data.train_width or data.train_size) if data.train_size else None
  return Fake(found, n or len(found.train), dense, crop) if data.fake else found


def _dense(data, shared):
  """(photos with a class for every pixel, how many there are to train on where that is known without them)."""
  if data.dataset == "scenes":
    return _scenes(data, shared)
  size = sizes.sides(shared.pop("resolution"))
  crop = (data.train_size, data.train_width or data.train_size) if data.train_size else size
  if data.dataset == "voc":
    classes = tuple(data.classes) or voc.CLASSES
    open_split = functools.partial(voc.source, data.dir, classes=classes)
  else:
    classes, open_split = cityscapes.CLASSES, functools.partial(cityscapes.source, data.dir)
    if data.classes and tuple(data.classes) != classes:
      raise UsageError("config.data.classes is not possible for cityscapes, whose 19 classes are its own")
  for name in (data.train_split, data.eval_split):
    splits.cut(name)
  opens = functools.partial(open_split, split=data.train_split), functools.partial(open_split, split=data.eval_split)
  found = ImageMaskFiles(classes, *opens, size, crop, **shared)
  _ = found.crops
  return found, cityscapes.TRAINING if data.dataset == "cityscapes" else None


def _scenes(data, shared):
  """(the embedded scenes, how many there are in an epoch)."""
  size, augment_by = sizes.sides(shared["resolution"]), shared.pop("augment")
  for field in ("dir", "train_size", "train_width"):
    if data[field]:
      raise UsageError(
        f"config.data.{field} = {data[field]!r} goes with photos in files; scenes are made at the network's size"
      )
  if min(size) < scenes.LEAST:
    raise UsageError(f"scenes of {sizes.pixels(shared['resolution'])} are not possible; a side is at least {scenes.LEAST} px")
  if augment_by != "none":
    raise UsageError(f"config.data.augment = {augment_by!r} is not possible; scenes are new ones in every epoch: 'none'")
  if data.classes and tuple(data.classes) != scenes.CLASSES:
    raise UsageError("config.data.classes is not possible for scenes, which have the classes of fashion_mnist and a background")
  found = SceneMasks(scenes.Scenes(data.train_split, size), scenes.Scenes(data.eval_split, size), **shared)
  if found.batch_size > len(found.train):
    raise UsageError(f"config.train.batch_size = {found.batch_size} is more than the {len(found.train)} scenes of an epoch")
  _ = found.test.numbers
  return found, len(found.train)


def _embedded(data, shared):
  """(the embedded photos, how many there are to train on)."""
  augment.policy(data.augment)
  if data.dir:
    raise UsageError(
      f"config.data.dir = {data.dir!r} goes with other data sets than config.data.dataset = 'fashion_mnist', which is embedded"
    )
  chosen = _labels(fashion_mnist.CLASSES, data.classes)
  photos = InMemoryImages(
    train=_of_classes(fashion_mnist.load(data.train_split), chosen),
    test=_of_classes(fashion_mnist.load(data.eval_split), chosen),
    classes=tuple(fashion_mnist.CLASSES[i] for i in chosen),
    **shared,
  )
  if photos.batch_size > len(photos.train[0]):
    raise UsageError(f"config.train.batch_size = {photos.batch_size} is more than the {len(photos.train[0])} training photos")
  if not len(photos.test[0]):
    raise UsageError(f"no test photo of config.data.eval_split = {data.eval_split!r} is of config.data.classes")
  return photos, len(photos.train[0])


def _photographs(data, shared):
  """(photos in class folders or of TFDS, how many there are to train on where that is known without them)."""
  if data.dataset == "folder" or (data.dataset == "imagenet" and not _in_tfds(data)):
    classes, folders, others = _folders(data)

    def open_split(name):
      if not data.dir:
        raise UsageError(
          f"no config.data.dir says where the photos of {data.dataset!r} are: it has one folder per split, each with one "
          "folder per class"
          + (" (or it is TFDS's, with imagenet2012)" if data.dataset == "imagenet" else "")
          + "; evaluate --data DIR takes a folder with one folder per class"
        )
      return folder.split(data.dir, name, classes, folders, others)

  else:
    if data.dataset == "imagenet":
      classes = imagenet.classes()
      if data.classes and tuple(data.classes) != classes:
        raise UsageError("config.data.classes chooses among class folders; of TFDS's imagenet2012 all are taken")
    else:
      classes = tuple(data.classes) or tfds.class_names(_builder(data))

    def open_split(name):
      return tfds.Prepared(_builder(data), name, imagenet.ids() if data.dataset == "imagenet" else classes)

  splits.cut(data.train_split)
  splits.cut(data.eval_split)
  photographs = ImageFiles(
    classes, functools.partial(open_split, data.train_split), functools.partial(open_split, data.eval_split), **shared
  )
  return photographs, imagenet.TRAINING if data.dataset == "imagenet" else None


def _in_tfds(data):
  """Whether ImageNet is where TFDS keeps it, and not in class folders."""
  # a bucket has no class folders that could be listed
  return "://" in data.dir or (bool(data.dir) and (pathlib.Path(data.dir) / "imagenet2012").is_dir())


def _builder(data):
  return tfds.builder("imagenet2012" if data.dataset == "imagenet" else data.dataset.removeprefix("tfds/"), data.dir)


def _folders(data):
  """(class names, their folders' names, names of folders that are passed over) of a data set in class folders."""
  if data.dataset == "folder":
    classes = tuple(data.classes[i] for i in _labels(tuple(data.classes), data.classes))
    return classes, folder.folder_names(classes), ()
  chosen = _labels(imagenet.classes(), data.classes)
  classes, folders = (tuple(values[i] for i in chosen) for values in (imagenet.classes(), imagenet.folders()))
  return classes, folders, tuple(name for names in imagenet.folders() for name in names) if data.classes else ()


def photos(root, like):
  """Photos in class folders as a test set for a network that has learnt the data set `like`, shown as that shows them."""
  ids = dict(zip(imagenet.classes(), imagenet.folders(), strict=True))
  of_imagenet = like.classes and set(like.classes) <= ids.keys()
  folders = tuple(ids[name] for name in like.classes) if of_imagenet else folder.folder_names(like.classes)
  open_test = functools.partial(folder.Folder, root, like.classes, folders)
  if isinstance(like, ImageFiles):
    return dataclasses.replace(like, open_test=open_test)
  return Prepares(like.classes, open_test, open_test, like.resolution, prepared_by=like)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepares(ImageFiles):
  """ImageFiles that are shown as another data set shows its own.

  Attributes:
    prepared_by: that one.
  """

  prepared_by: object = None

  def prepare(self, image):
    """As Photos.prepare."""
    return self.prepared_by.prepare(image)


def _labels(classes, names):
  """The labels of `names` in a data set's classes; all where there are no names."""
  for name in names:
    if name not in classes:
      raise UsageError(f"config.data.classes has {name!r}, which is no class of this data set; {nearest(name, classes)}")
  if len(set(names)) < len(names):
    raise UsageError("config.data.classes names a class twice")
  return [classes.index(name) for name in names] or list(range(len(classes)))


def _of_classes(split, chosen):
  """The photos (images, labels) of some labels, which become 0, 1, ..."""
  images, labels = split
  if chosen == list(range(int(labels.max()) + 1)):
    return split
  new = np.full(max(labels.max(), max(chosen)) + 1, -1, np.int32)
  new[chosen] = np.arange(len(chosen))
  kept = new[labels] >= 0
  return images[kept], new[labels[kept]]
