"""Image files of any size, pipes and devices in data sets of masks and boxes: refused before they are read."""

import os

import boxed
import pairs
import pytest

from mnv3_jax.data import facts
from mnv3_jax.data.sources import cityscapes, coco, tfds
from mnv3_jax.errors import UsageError


def sources(root):
  """A source of masks and one of boxes, each with two images."""
  return cityscapes.open_split(pairs.cityscapes(root / "masks", 2), "train"), coco.open_split(
    boxed.coco(root / "boxes", {"train": range(2)}), "train", classes=boxed.CLASSES
  )


def sparse(path):
  """Makes a file of 10 GB that takes no space on the disk."""
  os.truncate(path, 10 * 2**30)


def pipe(path):
  """Makes a pipe without a writer: opening it would wait for ever."""
  os.unlink(path)
  os.mkfifo(path)


@pytest.mark.parametrize(
  ("spoil", "why"), [(sparse, "it has 10,737,418,240 bytes, more than"), (pipe, "it is no regular file")]
)
def test_images_are_refused_before_they_are_read(spoil, why, tmp_path):
  masks, boxes = sources(tmp_path)
  for source, read_facts in ((masks, facts.mask_facts), (boxes, facts.box_facts)):
    spoil(source.name(0))
    with pytest.raises(UsageError, match=f"'{source.name(0)}' cannot be read: {why}"):
      source.read(0)
    with pytest.raises(OSError, match=why):
      source.image(0)
    assert source.size(0) is None and source.size(1) and why in read_facts(source, 0).error


def test_records_beyond_the_limit_are_refused(tmp_path):
  """A length in a sparse file of records."""
  file = tmp_path / "one.tfrecord"
  file.write_bytes((5 * 2**30).to_bytes(8, "little") + bytes(4))
  sparse(file)
  with pytest.raises(UsageError, match=r"one\.tfrecord' is damaged: a record at byte 0 has 5,368,709,120 bytes; expected at"):
    tfds._scan_file(str(file), file.stat().st_size)
