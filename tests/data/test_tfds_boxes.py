"""Images with boxes that TFDS has prepared, with the features of its coco and voc."""

import boxed
import numpy as np
import photographs
import pytest

from mnv3_jax.data.sources import tfds_boxes, voc_boxes
from mnv3_jax.data.sources.base import ImageBoxSource
from mnv3_jax.data.sources.coco_classes import CLASSES, USED
from mnv3_jax.errors import UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("tfds")
  boxed.prepared(root, {"train": range(5), "validation": range(5, 7)})
  return boxed.prepared(root, {"train": range(5)}, "voc/2007")


@pytest.mark.parametrize("name", ["coco/2017", "voc/2007"])
def test_images_with_their_boxes(root, name):
  found = tfds_boxes.open_builder(name, str(root))
  classes = tfds_boxes.class_names(found)
  # TFDS has 80 labels, which are ranks of the ids that are used; here label = id - 1
  assert classes == (CLASSES if name == "coco/2017" else voc_boxes.CLASSES)
  source = tfds_boxes.TFDSBoxes(found, "train", ())
  assert isinstance(source, ImageBoxSource) and len(source) == 5 and "5 images with boxes of " in source.fingerprint
  for i in range(5):
    # TFDS shuffles
    image, rows = source.read(i)
    k = next(k for k in range(5) if source.image(i) == boxed.jpeg(k))
    expected = boxed.objects(k)
    assert np.abs(np.asarray(image, int) - np.asarray(boxed.painted(k), int)).max() < 12
    np.testing.assert_allclose(rows.boxes, np.array([box for _, box in expected]).reshape(-1, 4), atol=1e-4)
    assert rows.labels.tolist() == [label for label, _ in expected]
    assert rows.crowd.tolist() == [j == 1 for j in range(len(expected))]
    np.testing.assert_allclose(rows.area, [(b - t) * (r - x) for _, (t, x, b, r) in expected], rtol=1e-4)
    assert source.size(i) == image.size[::-1]
  assert source.counts() is None and source.problems is None


def test_classes_are_chosen_by_name(root):
  found = tfds_boxes.open_builder("coco/2017", str(root))
  source = tfds_boxes.TFDSBoxes(found, "train", ())
  assert source.labels_of_own[[0, 11, 79]].tolist() == [0, 12, 89]
  assert [CLASSES[label] for label in source.labels_of_own] == list(USED.values())
  source = tfds_boxes.TFDSBoxes(found, "train", ("car",))
  for i in range(5):
    k = next(k for k in range(5) if source.image(i) == boxed.jpeg(k))
    assert source.read(i)[1].labels.tolist() == [0 for label, _ in boxed.objects(k) if label == 2]
  with pytest.raises(UsageError, match=r"invalid class 'cars' for coco; did you mean 'car'"):
    tfds_boxes.TFDSBoxes(found, "train", ("cars",))


def test_other_data_sets_are_named(root, tmp_path):
  with pytest.raises(UsageError, match=r"no split 'trian' of coco"):
    tfds_boxes.TFDSBoxes(tfds_boxes.open_builder("coco/2017", str(root)), "trian", ())
  photographs.prepared(tmp_path, 6)
  with pytest.raises(
    UsageError, match=r"invalid data set 'tiny_photos'; expected an image and boxes with one class each, it has"
  ):
    tfds_boxes.open_builder("tiny_photos", str(tmp_path))
