"""Images with boxes that TensorFlow Datasets has prepared: coco, voc, and others with a list of boxes and their classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources import tfds
from mnv3_jax.data.sources.box_files import place
from mnv3_jax.data.sources.coco_classes import CLASSES, USED
from mnv3_jax.data.transforms.annotations import Annotations, from_rows
from mnv3_jax.data.transforms.decoding import SWAPPING, decode_image, open_header, orientation
from mnv3_jax.errors import UsageError

# features that are 1 where a box does not count
CROWD = ("is_crowd", "is_difficult")


def open_builder(name: str, folder: str) -> Any:
  """Opens the TFDS builder of a data set of images with boxes; raises UsageError for other kinds, too."""
  found = tfds.open_builder(name, folder)
  feature_names(found)
  return found


def feature_names(found: Any) -> tuple[str, str, str, str]:
  """Returns the names of the features of a builder: image, list of objects, and in it the box and the class.

  Raises:
    UsageError: with the features that there are, for a data set of another kind.
  """
  kinds, features = tfds.import_tfds().features, found.info.features
  images, lists = [], []
  for name, feature in features.items() if isinstance(features, kinds.FeaturesDict) else ():
    if isinstance(feature, kinds.Image):
      images.append(name)
    inner = getattr(feature, "feature", None)
    if inner is not None and isinstance(feature, kinds.Sequence) and isinstance(inner, kinds.FeaturesDict):
      boxes, labels = ([k for k, f in inner.items() if isinstance(f, kind)] for kind in (kinds.BBoxFeature, kinds.ClassLabel))
      labels = ["label"] if "label" in labels else labels
      if len(boxes) == len(labels) == 1:
        lists.append((name, boxes[0], labels[0]))
  if len(images) != 1 or len(lists) != 1:
    has = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in getattr(features, "items", dict)())
    raise UsageError(f"invalid data set {found.name!r}; expected an image and boxes with one class each, it has {has}")
  return images[0], *lists[0]


def class_names(found: Any) -> tuple[str, ...]:
  """Returns the class names of a builder by label: COCO's 90 for its own 80."""
  names = _own_names(found)
  return CLASSES if names == tuple(USED.values()) else names


def _own_names(found: Any) -> tuple[str, ...]:
  _, objects, _, label = feature_names(found)
  return tuple(found.info.features[objects].feature[label].names)


class TFDSBoxes(tfds.TFDSExamples):
  """An ImageBoxSource.

  TFDS keeps COCO's areas as whole numbers and the corners of VOC as they are in its files, which count pixels from 1: here
  those boxes are a pixel larger at the top and on the left.

  Args:
    found: result of open_builder.
    split: see TFDSExamples.
    classes: names by label, a choice of the data set's; () for all, see class_names.

  Raises:
    UsageError: see TFDSExamples; and for an unknown class.
  """

  problems = None

  def __init__(self, found: Any, split: str, classes: Sequence[str]) -> None:
    own, classes = _own_names(found), tuple(classes) or class_names(found)
    unknown = next((name for name in classes if name not in own), None)
    if unknown is not None and tuple(classes) != CLASSES:
      raise UsageError(f"invalid class {unknown!r} for {found.name}; {nearest(unknown, own)}")
    self.features = feature_names(found)
    labels = {name: i for i, name in enumerate(classes)}
    self.labels_of_own = np.array([labels.get(name, -1) for name in own], np.int32)
    # edge of the pixel 1
    self.first = 1 if found.name == "voc" else 0
    super().__init__(found, split, self.features[:1])

  def read(self, i: int) -> tuple[Image.Image, Annotations]:
    """See ImageBoxSource.read."""
    name = self.name(i)
    try:
      example = self.example(i)
    except OSError as error:
      raise UsageError(f"{name!r} cannot be read: {error.strerror or error}") from None
    image, objects, box, label = self.features
    stored, found = decode_image(example[image], name), example[objects]
    boxes = np.asarray(found[box], np.float64).reshape(-1, 4) * (stored.height, stored.width, stored.height, stored.width)
    boxes[:, :2] -= self.first
    own = np.asarray(found[label], int)
    known = (own >= 0) & (own < len(self.labels_of_own))
    labels = np.where(known, self.labels_of_own[np.where(known, own, 0)], -1)
    crowd = next((found[feature] for feature in CROWD if feature in found), None)
    rows = from_rows(boxes, labels, crowd, found.get("area"))
    chosen = (labels >= 0) & (rows.boxes[:, 2:] > rows.boxes[:, :2]).all(1)
    return place(stored, rows.take(chosen), (stored.height, stored.width), name)

  def image(self, i: int) -> bytes:
    """See ImageBoxSource.image."""
    return self.example(i)[self.features[0]]

  def size(self, i: int) -> tuple[int, int] | None:
    """See ImageBoxSource.size; reads the whole record."""
    try:
      image = open_header(self.image(i), self.name(i))
    except (OSError, UsageError):
      return None
    return (image.width, image.height) if orientation(image) in SWAPPING else (image.height, image.width)

  def counts(self) -> None:
    """See ImageBoxSource.counts."""
    return None

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint; names the version of the data set."""
    return f"{self.n} images with boxes of {self.builder.info.full_name} {self.split}"
