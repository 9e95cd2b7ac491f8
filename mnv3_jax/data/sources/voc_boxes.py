"""Images with boxes in the layout of Pascal VOC (Everingham et al., 2010): one XML file of annotations per image."""

import math
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any, NoReturn
from xml.parsers import expat

import numpy as np

from mnv3_jax.data.sources import label_maps
from mnv3_jax.data.sources.box_files import BoxFiles, build_table
from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.sources.image_mask_pairs import read_bytes
from mnv3_jax.data.sources.image_suffixes import image_suffixes
from mnv3_jax.data.sources.splits import parse_split, take_slice
from mnv3_jax.data.sources.voc_layout import by_stem, find_year, read_list
from mnv3_jax.data.transforms.annotations import from_rows
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

# without the background of the masks
CLASSES = label_maps.VOC[1:]
IMAGES, ANNOTATIONS, LISTS = "JPEGImages", "Annotations", pathlib.PurePath("ImageSets", "Main")
EXPECTED_FOLDERS = f"{IMAGES} and {ANNOTATIONS} in it, and {LISTS.as_posix()} for splits other than 'all'"
MAX_XML_BYTES = 2**24


def open_split(root: PathLike, split: str, classes: Sequence[str] = CLASSES) -> Any:
  """Opens a split.

  Args:
    root: a folder that has JPEGImages and Annotations in it, or one that contains exactly one such folder, like VOCdevkit.
    split: the name of a list in ImageSets/Main: "train", "val", "trainval", "test"; "all" for every file of Annotations where
      no list has that name; or a slice of one such as "all[:90%]", of its images in a random order that is always the same.
    classes: names by label.

  Returns:
    An ImageBoxSource.

  Raises:
    UsageError: if there are no such files; or naming the file of annotations that is missing, damaged or not VOC's.
  """
  if not root:
    raise UsageError(f"config.data.dataset='voc' requires config.data.dir, which has {EXPECTED_FOLDERS}")
  name, part = parse_split(split)
  return take_slice(_open_list(root, name, classes), part, f"{name!r} in {str(root)!r}")


def _open_list(root: PathLike, split: str, classes: Sequence[str]) -> BoxFiles:
  folder = find_year(pathlib.Path(root), (IMAGES, ANNOTATIONS), EXPECTED_FOLDERS)
  files, images = by_stem(folder / ANNOTATIONS, (".xml",)), by_stem(folder / IMAGES, image_suffixes())
  if split == "all" and not os.path.isfile(folder / LISTS / "all.txt"):
    stems = sorted(files)
  else:
    path, stems = read_list(folder / LISTS, split)
    lonely = [stem for stem in stems if stem not in files]
    if lonely:
      more = f"; {len(lonely) - 1:,} more have none" if len(lonely) > 1 else ""
      raise UsageError(
        f"{str(path)!r} lists {lonely[0]!r}, but there is no {str(folder / ANNOTATIONS / lonely[0])!r}.xml{more}"
      )
  problems, labels = Problems(), {name: i for i, name in enumerate(classes)}
  sizes, found, where = [], [], []
  for i, stem in enumerate(stems):
    size, objects = read_annotations(files[stem])
    sizes.append(size)
    for k, (name, box, difficult) in enumerate(objects, 1):
      if name in labels:
        found.append((i, labels[name], difficult, *box))
        where.append((files[stem], k))
      else:
        sentence = f"object {k} of {str(files[stem])!r} is {name[:40]!r}, none of the {len(classes)} classes"
        problems.add("unknown_class", sentence)
  table = np.array(found, np.float64).reshape(-1, 7)
  return BoxFiles(
    folder / IMAGES,
    build_table(
      names=[images[stem].name if stem in images else f"{stem}.jpg" for stem in stems],
      sizes=np.array(sizes, np.int64).reshape(-1, 2),
      images=table[:, 0].astype(np.int64),
      found=from_rows(table[:, 3:], table[:, 1], table[:, 2]),
      describe=lambda k: f"object {where[k][1]} of {str(where[k][0])!r}",
      problems=problems,
    ),
  )


def read_annotations(path: pathlib.Path) -> tuple[tuple[int, int], list[tuple[str, tuple[float, ...], bool]]]:
  """Reads the annotations of an image.

  Returns:
    ((height, width) in pixels, zeros where the file has none; [(class, (top, left, bottom, right), difficult)]). Corners of the
    file are numbers of pixels from 1, both in the box: the left edge of pixel 1 is at 0 here.

  Raises:
    UsageError: naming the file that cannot be read, is not XML, has a document type or entities, or an invalid object.
  """

  def fail(what: str) -> NoReturn:
    raise UsageError(f"{str(path)!r} {what}") from None

  root = _parse_xml(read_bytes(path), path)
  if root.tag != "annotation":
    fail(f"has a root <{root.tag[:40]}>; expected Pascal VOC's <annotation>")
  height, width = (_number(root.findtext(f"size/{side}")) for side in ("height", "width"))
  size = (int(height), int(width)) if 0 < height < 2**31 and 0 < width < 2**31 else (0, 0)
  objects = []
  for k, item in enumerate(root.findall("object"), 1):
    name = (item.findtext("name") or "").strip()
    left, top, right, bottom = (_number(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    if not name or any(map(math.isnan, (left, top, right, bottom))):
      fail(f"has no valid name and bndbox of xmin, ymin, xmax, ymax in object {k}")
    objects.append((name, (top - 1, left - 1, bottom, right), _number(item.findtext("difficult")) == 1))
  return size, objects


def _number(text: str | None) -> float:
  """Parses a number; NaN for anything else."""
  try:
    return float(text or "nan")
  except ValueError:
    return math.nan


def _parse_xml(content: bytes, path: pathlib.Path) -> ElementTree.Element:
  """Parses XML without document types, which entities that grow or name other files need; raises UsageError."""
  if len(content) > MAX_XML_BYTES:
    raise UsageError(f"{str(path)!r} is too large: {len(content):,} bytes; expected at most {MAX_XML_BYTES:,}")
  builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

  def refuse(*arguments: object) -> NoReturn:
    del arguments
    raise UsageError(f"{str(path)!r} has a document type (<!DOCTYPE>), which files of annotations have no use for")

  parser.StartDoctypeDeclHandler = refuse
  parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
  parser.EndElementHandler = lambda tag: builder.end(tag)
  parser.CharacterDataHandler = builder.data
  try:
    parser.Parse(content, True)
    return builder.close()
  except (expat.ExpatError, ValueError, LookupError) as error:
    if isinstance(error, UsageError):
      raise
    raise UsageError(f"{str(path)!r} is not valid XML: {first_line(error)}") from None
