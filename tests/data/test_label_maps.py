"""Label maps, and errors on invalid masks."""

import io
import re

import numpy as np
import pairs
import pytest
from PIL import Image

from mnv3_jax.data.sources import label_maps
from mnv3_jax.errors import UsageError

IDS = label_maps.label_ids()


def png(image, **how):
  out = io.BytesIO()
  image.save(out, "PNG", **how)
  return out.getvalue()


def test_the_label_ids_of_cityscapes():
  ids = np.append(np.arange(34), 255).astype(np.uint8)[None]
  # labels.py of cityscapesScripts: trainId by id, 255 for -1
  expected = [255] * 7 + [
    0,
    1,
    255,
    255,
    2,
    3,
    4,
    255,
    255,
    255,
    5,
    255,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    255,
    255,
    16,
    17,
    18,
  ]
  found = IDS.read(png(Image.fromarray(ids)), "a.png")
  assert found.dtype == np.uint8 and found[0].tolist() == [*expected, 255]
  assert len(label_maps.CITYSCAPES) == 19 and [label_maps.CITYSCAPES[i] for i in (0, 6, 13, 18)] == [
    "road",
    "traffic light",
    "car",
    "bicycle",
  ]


@pytest.mark.parametrize("made", [pairs.palette, Image.fromarray])
def test_indices_are_taken_from_a_palette_and_from_grey(made):
  ids = pairs.labels(3, ids=(*range(21), 255))
  assert np.array_equal(label_maps.indices(21).read(png(made(ids)), "a.png"), ids)
  assert len(label_maps.VOC) == 21 and label_maps.VOC[0] == "background" and label_maps.VOC[15] == "person"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_few_colors_has_indices_too(bits):
  ids = pairs.labels(1, ids=range(2 ** min(bits, 4)))
  assert np.array_equal(label_maps.indices(21).read(png(pairs.palette(ids), bits=bits), "a.png"), ids)


def grey_of_four_bits():
  """Encodes a 2 x 1 PNG of 4-bit grey, which Pillow does not write."""
  import struct
  import zlib

  def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x12")) + chunk(b"IEND", b"")


IMAGE = Image.fromarray(pairs.labels(0))
VOC = label_maps.indices(21)


@pytest.mark.parametrize(
  ("content", "label_map", "words"),
  [
    (
      png(Image.fromarray(np.full((4, 4), 34, np.uint8))),
      IDS,
      "it has the label id 34; expected Cityscapes' label ids, 0 to 33, or 255",
    ),
    (
      png(Image.fromarray(np.full((4, 4), 19, np.uint8))),
      label_maps.train_ids(19),
      "label id 19; expected the train ids, 0 to 18",
    ),
    (png(Image.fromarray(np.full((4, 4), 21, np.uint8))), VOC, "label id 21; expected the classes' indices, 0 to 20, or 255"),
    (png(pairs.palette(np.full((4, 4), 254, np.uint8))), VOC, "label id 254"),
    (
      png(Image.fromarray(np.full((4, 4), 7, np.uint16))),
      IDS,
      "is a PNG of 16-bit grey; expected a PNG of 8-bit grey, with Cityscapes' label ids",
    ),
    (png(IMAGE.convert("RGB")), IDS, "is a PNG of 8-bit RGB color"),
    (
      png(IMAGE.convert("RGBA")),
      VOC,
      "is a PNG of 8-bit RGBA color; expected a PNG of 8-bit grey or a palette, with the classes' indices",
    ),
    (png(IMAGE.convert("LA")), VOC, "is a PNG of 8-bit grey with transparency"),
    (
      png(pairs.palette(pairs.labels(0))),
      IDS,
      "is a PNG of 8-bit palette color; expected a PNG of 8-bit grey, with Cityscapes' label ids",
    ),
    (png(IMAGE.convert("1")), VOC, "is a PNG of 1-bit grey;"),
    (grey_of_four_bits(), VOC, "is a PNG of 4-bit grey;"),
    (png(IMAGE)[:-30], IDS, "is damaged or cut off"),
    (b"no image", IDS, "is not an image"),
    (b"", IDS, "is not an image"),
  ],
)
def test_invalid_masks_are_named(content, label_map, words):
  with pytest.raises(UsageError, match="'folder/a.png'.*" + re.escape(words)) as error:
    label_map.read(content, "folder/a.png")
  assert "\n" not in str(error.value)


def test_a_mask_that_is_a_jpeg_is_named():
  out = io.BytesIO()
  IMAGE.save(out, "JPEG")
  with pytest.raises(UsageError, match=r"'a.png': it is a JPEG file; expected a PNG"):
    VOC.read(out.getvalue(), "a.png")
