"""Writes images with masks for tests: Cityscapes' folders and archives, and Pascal VOC's layout."""

import zipfile

import numpy as np
from PIL import Image


def labels(i, size=(32, 48), ids=tuple(range(34))):
  """Returns a (height, width) uint8 mask: blocks of 8 pixels, each of one of `ids`."""
  blocks = np.random.default_rng(i).choice(ids, (-(-size[0] // 8), -(-size[1] // 8)))
  return np.repeat(np.repeat(blocks, 8, 0), 8, 1)[: size[0], : size[1]].astype(np.uint8)


def painted(ids):
  """Returns an RGB image whose color encodes the number of every pixel: (5 x, 255 - 5 x, 7 x mod 256)."""
  x = ids.astype(int)
  return Image.fromarray(np.stack([5 * x % 256, 255 - 5 * x % 256, 7 * x % 256], -1).astype(np.uint8))


def cityscapes(root, n, split="train", cities=("aachen", "bonn"), size=(32, 48), first=0):
  """Writes `n` pairs in Cityscapes' folders; returns root."""
  for i in range(first, first + n):
    stem = f"{cities[i % len(cities)]}/{cities[i % len(cities)]}_{i:06}_000019"
    ids = labels(i, size)
    for kind, end, image in (
      ("leftImg8bit", "leftImg8bit", painted(ids)),
      ("gtFine", "gtFine_labelIds", Image.fromarray(ids)),
    ):
      path = root / kind / split / f"{stem}_{end}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      image.save(path)
  return root


def zipped(root, folder):
  """Archives Cityscapes' folders in `root` as the two files that TFDS expects in `folder`; returns `folder`."""
  folder.mkdir(parents=True)
  for kind in ("leftImg8bit", "gtFine"):
    with zipfile.ZipFile(folder / f"{kind}_trainvaltest.zip", "w") as archive:
      for path in sorted((root / kind).rglob("*.png")):
        archive.write(path, path.relative_to(root))
  return folder


def palette(ids):
  """Returns a palette image of (height, width) uint8 indices."""
  image = Image.fromarray(ids).convert("P")
  image.putdata(ids.reshape(-1).tolist())
  image.putpalette([value * 37 % 256 for i in range(256) for value in (i, i + 1, i + 2)])
  return image


def voc(root, lists, classes=21, sizes=((32, 48), (40, 30))):
  """Writes a Pascal VOC folder with the images of `lists`, {split: n}, numbered consecutively; returns root."""
  for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
    (root / name).mkdir(parents=True, exist_ok=True)
  i = 0
  for split, n in lists.items():
    names = [f"2007_{i + k:06}" for k in range(n)]
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for name in names:
      ids = labels(i, sizes[i % len(sizes)], (*range(classes), 255))
      painted(ids).save(root / "JPEGImages" / f"{name}.jpg", quality=100, subsampling=0)
      palette(ids).save(root / "SegmentationClass" / f"{name}.png")
      i += 1
  return root
