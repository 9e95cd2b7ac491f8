"""Suffixes of the image files that Pillow decodes."""

import collections
import functools
from collections.abc import Iterable, Mapping

from PIL import Image, ImageFile

# the usual ones; an image that exists under several of them is the first
COMMON = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm")
# Pillow identifies them and decodes none by itself: EPS needs Ghostscript, MPEG has no decoder
NOT_DECODED = ("EPS", "MPEG")
# files that operating systems leave everywhere
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "ehthumbs.db")


@functools.cache
def image_suffixes() -> tuple[str, ...]:
  """Returns the suffixes of every format that Pillow decodes, in lower case, the usual ones first."""
  found = set()
  for suffix, name in Image.registered_extensions().items():
    # Pillow's JPEG plugin opens MPO files
    opener = Image.OPEN.get("JPEG" if name == "MPO" else name)
    stub = opener is None or (isinstance(opener[0], type) and issubclass(opener[0], ImageFile.StubImageFile))
    if not stub and name not in NOT_DECODED:
      found.add(suffix.lower())
  return (*COMMON, *sorted(found - set(COMMON)))


def suffix_counts(suffixes: Iterable[str]) -> dict[str, int]:
  """Counts suffixes, the most frequent first."""
  return dict(sorted(collections.Counter(s.lower() for s in suffixes).items(), key=lambda item: (-item[1], item[0])))


def describe(counts: Mapping[str, int]) -> str:
  """Formats counts by suffix: "12 .heic, 3 without a suffix"."""
  named = [f"{n:,} {suffix or 'without a suffix'}" for suffix, n in counts.items()]
  return ", ".join(named[:6]) + (f" and {len(named) - 6} more suffixes" if len(named) > 6 else "")
