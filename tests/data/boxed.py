"""Writes images with boxes for tests: COCO's JSON and Pascal VOC's XML, objects being rectangles of their class's color."""

import io
import json

import numpy as np
from PIL import Image

from mnv3_jax.data.sources.coco_classes import USED

CLASSES = ("cat", "dog", "owl")
COLORS = ((230, 20, 20), (20, 230, 20), (20, 20, 230))
# (height, width) of the images, in turn
SIZES = ((40, 60), (50, 36))


def objects(i, size=None):
  """Returns [(label, (top, left, bottom, right))] of image `i`, in whole pixels; every fifth image has none."""
  rng = np.random.default_rng(i)
  height, width = size or SIZES[i % len(SIZES)]
  found = []
  for _ in range(0 if i % 5 == 4 else 1 + i % 3):
    h, w = int(rng.integers(6, height // 2)), int(rng.integers(6, width // 2))
    top, left = int(rng.integers(height - h)), int(rng.integers(width - w))
    found.append((int(rng.integers(3)), (top, left, top + h, left + w)))
  return found


def painted(i, size=None):
  """Returns an RGB image on grey with the objects of image `i`."""
  size = size or SIZES[i % len(SIZES)]
  pixels = np.full((*size, 3), 128, np.uint8)
  for label, (top, left, bottom, right) in objects(i, size):
    pixels[top:bottom, left:right] = COLORS[label]
  return Image.fromarray(pixels)


def jpeg(i, **how):
  """Encodes image `i` as a JPEG file without a visible loss."""
  out = io.BytesIO()
  painted(i).save(out, "JPEG", quality=100, subsampling=0, **how)
  return out.getvalue()


def coco_content(numbers):
  """Returns the content of a COCO file of some images; annotation ids begin at 0, category ids have holes and no order."""
  ids = (7, 1, 40)
  images, annotations = [], []
  for i in numbers:
    height, width = SIZES[i % len(SIZES)]
    images.append({"id": 100 + i, "file_name": f"{i:06}.jpg", "height": height, "width": width})
    for label, (top, left, bottom, right) in objects(i):
      box = [left, top, right - left, bottom - top]
      annotations.append({"id": len(annotations), "image_id": 100 + i, "category_id": ids[label], "bbox": box})
  # by id: dog, cat, owl
  categories = [{"id": ids[k], "name": name} for k, name in enumerate(CLASSES)]
  return {"images": images, "annotations": annotations, "categories": categories}


def coco(root, splits, year="2017"):
  """Writes COCO's layout with {split: numbers of images}; returns root."""
  (root / "annotations").mkdir(parents=True, exist_ok=True)
  for split, numbers in splits.items():
    folder = root / f"{split}{year}"
    folder.mkdir(exist_ok=True)
    for i in numbers:
      (folder / f"{i:06}.jpg").write_bytes(jpeg(i))
    (root / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(coco_content(numbers)))
  return root


def voc_xml(i):
  """Returns Pascal VOC's annotations of image `i`, whose pixels count from 1; the second object is difficult."""
  height, width = SIZES[i % len(SIZES)]
  found = "".join(
    f"<object><name>{CLASSES[label]}</name><difficult>{int(k == 1)}</difficult><bndbox><xmin>{left + 1}</xmin>"
    f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
    for k, (label, (top, left, bottom, right)) in enumerate(objects(i))
  )
  return (
    f"<annotation><filename>{i:06}.jpg</filename><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    f"{found}</annotation>"
  )


def voc(root, splits):
  """Writes Pascal VOC's layout with {split: numbers of images}; returns root."""
  for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
    (root / name).mkdir(parents=True, exist_ok=True)
  for split, numbers in splits.items():
    (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{i:06}\n" for i in numbers))
    for i in numbers:
      (root / "JPEGImages" / f"{i:06}.jpg").write_bytes(jpeg(i))
      (root / "Annotations" / f"{i:06}.xml").write_text(voc_xml(i))
  return root


def prepared(root, splits, name="coco/2017"):
  """Prepares TFDS's own coco or voc with {split: numbers of images} of ours in `root`; returns root.

  The second object of an image is one of a crowd, or difficult; labels are the first three classes.
  """
  import tensorflow_datasets as tfds

  builder = tfds.builder(name, data_dir=root)
  of_coco = builder.name == "coco"

  def examples(numbers):
    for i in numbers:
      height, width = SIZES[i % len(SIZES)]
      found = []
      for k, (label, (top, left, bottom, right)) in enumerate(objects(i)):
        # VOC's corners count from 1
        first = 0 if of_coco else 1
        box = tfds.features.BBox((top + first) / height, (left + first) / width, bottom / height, right / width)
        one = {"bbox": box, "label": label}
        if of_coco:
          one |= {"id": k, "area": (bottom - top) * (right - left), "is_crowd": k == 1}
        else:
          one |= {"pose": 0, "is_truncated": False, "is_difficult": k == 1}
        found.append(one)
      more = {"image/id": i} if of_coco else {"labels": [], "labels_no_difficult": []}
      yield i, {"image": io.BytesIO(jpeg(i)), "image/filename": f"{i}.jpg", "objects": found, **more}

  def split_generators(_):
    if of_coco:
      builder.info.features["objects"]["label"].names = list(USED.values())
    return {split: examples(numbers) for split, numbers in splits.items()}

  builder._split_generators = split_generators
  builder.download_and_prepare()
  return root
