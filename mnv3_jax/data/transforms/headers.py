"""Headers of JPEG and PNG files: for which of them TensorFlow's decoder gives the pixels that decoding.py defines.

TensorFlow ignores orientation, and treats some color models, depths and damaged files in its own way. A file is accepted only
if every part of its header is known and means the same to both decoders: baseline or progressive JPEG files of 8 bits, grey or
YCbCr, and PNG files of 8 bits without a palette; without an orientation in Exif or XMP, or with the upright one.
"""

import re
import struct
import zlib
from collections.abc import Callable

from mnv3_jax.data.transforms.decoding import MAX_PIXELS

# bytes from the start of a file that usually hold its header
HEAD = 4096
# JPEG markers: frames (baseline, extended and progressive), and segments that mean the same to both decoders or nothing:
# Huffman tables, restart interval, comment, and the segments APP0 to APP15, of which some are looked into
FRAMES, TABLES, SCAN, SKIPPED = (0xC0, 0xC1, 0xC2), 0xDB, 0xDA, frozenset((0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0)))
APP0, APP1, APP2, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE
END = b"\xff\xd9"
# of the color components, horizontal and vertical: 4:4:4, 4:2:2, 4:2:0
SAMPLINGS = (b"\x11\x11\x11", b"\x21\x11\x11", b"\x22\x11\x11")
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# Exif tags, and their types
ORIENTATION, SHORT, RESOLUTION, RATIONAL = 0x0112, 3, 0x011A, 5
# Pillow's own pattern
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
# first bytes of the PNG files that TensorFlow may decode, in RE2's syntax: below 8192 px, 8 bits of grey, RGB or RGBA, not
# interlaced
PNG_HEADER = r"\C" + r"PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + r"\x00\x00[\x00-\x1f]\C" * 2 + r"\x08[\x00\x02\x06]\x00\x00\x00"
PNG_HEADER_SIZE, PNG_SIDE, PNG = 29, 8192, b"\x89PNG\r\n\x1a\n"
# chunks of PNG files that do not change pixels, with their size where it is fixed; of those with text, only some
NO_PIXELS = {b"pHYs": 9, b"tIME": 7, b"gAMA": 4, b"sRGB": 1, b"cHRM": 32, b"IDAT": None, b"bKGD": None, b"tEXt": None}
ORIENTED_TEXT = (b"Raw profile", b"XML")


def is_plain(head: bytes, length: int, tail: bytes, jpeg: bool = False) -> bool | None:
  """Checks whether TensorFlow's decoder and `decoding.decode_image` give the same upright RGB pixels of a file.

  Args:
    head: the first bytes of the file, or all of it.
    length: of the whole file in bytes.
    tail: the last two bytes of the file.
    jpeg: accept JPEG files only.

  Returns:
    None where more of the file is needed.
  """
  if head.startswith(b"\xff\xd8"):
    # cut off, or something after the image
    return _is_plain_jpeg(head, length) if tail == END else False
  return not jpeg and head.startswith(PNG) and _is_plain_png(head, length)


def _is_plain_jpeg(head: bytes, length: int) -> bool | None:
  at, n, exif, frame = 2, len(head), False, False
  while at + 4 <= n:
    marker, end = head[at + 1], at + 2 + (head[at + 2] << 8 | head[at + 3])
    if head[at] != 0xFF or end < at + 4 or end >= length:
      return False
    if marker == SCAN:
      return frame
    check = CHECKS.get(marker)
    if check:
      if end > n:
        return None
      segment = head[at + 4 : end]
      if not check(segment) or (marker in FRAMES and frame) or (exif and segment.startswith(EXIF)):
        return False
      frame, exif = frame or marker in FRAMES, exif or segment.startswith(EXIF)
    elif marker not in SKIPPED:
      return False
    at = end
  return None if n < length else False


def _is_plain_frame(segment: bytes) -> bool:
  """Checks the start of a frame: 8 bits, grey or three components."""
  if len(segment) not in (9, 15) or segment[0] != 8 or segment[5] * 3 + 6 != len(segment):
    return False
  _, height, width = struct.unpack_from(">BHH", segment)
  color = segment[5] == 1 or (segment[6::3] == b"\1\2\3" and segment[7::3] in SAMPLINGS)
  return 0 < height * width <= MAX_PIXELS and color


def _are_tables(segment: bytes) -> bool:
  """Checks that quantization tables are whole."""
  at = 0
  while at < len(segment):
    at += 129 if segment[at] >> 4 else 65
  return at == len(segment)


def _is_upright(segment: bytes) -> bool:
  """Checks that an APP1 segment has no orientation, or the upright one."""
  if segment.startswith(XMP):
    return all(found == b"1" for found in XMP_ORIENTATION.findall(segment))
  if not segment.startswith(EXIF):
    return True
  tiff = segment[6:]
  order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
  if order is None or len(tiff) < 10:
    return False
  (at,) = struct.unpack_from(f"{order}I", tiff, 4)
  if not 8 <= at <= len(tiff) - 2:
    return False
  (count,) = struct.unpack_from(f"{order}H", tiff, at)
  if at + 2 + 12 * count > len(tiff):
    return False
  for tag, kind, number, value in struct.iter_unpack(f"{order}HHI4s", tiff[at + 2 : at + 2 + 12 * count]):
    if tag == ORIENTATION and (kind, number, value[:2]) != (SHORT, 1, b"\1\0" if order == "<" else b"\0\1"):
      return False
    # of other types, Pillow takes the file for no image
    if tag == RESOLUTION and (kind, number) != (RATIONAL, 1):
      return False
  return True


def _is_jfif(segment: bytes) -> bool:
  """Checks an APP0 segment: Pillow takes a file in which JFIF is cut off for no image."""
  return len(segment) >= 14 or not segment.startswith(b"JFIF")


def _is_single(segment: bytes) -> bool:
  """Checks an APP2 segment: no further pictures, and a whole header of an ICC profile."""
  return not segment.startswith(b"MPF\0") and (len(segment) >= 14 or not segment.startswith(b"ICC_PROFILE\0"))


def _are_resources(segment: bytes) -> bool:
  """Checks an APP13 segment: Pillow takes a file in which a resource of Photoshop ends after its number for no image."""
  at = 14
  while segment.startswith(b"Photoshop 3.0\0") and segment.startswith(b"8BIM", at):
    at += 6
    if at == len(segment):
      return False
    if at > len(segment):
      break
    at += 1 + segment[at]
    at += at & 1
    if at + 4 > len(segment):
      break
    at += 4 + struct.unpack_from(">I", segment, at)[0]
    at += at & 1
  return True


def _is_ycbcr(segment: bytes) -> bool:
  """Checks an APP14 segment: Adobe's color transform is YCbCr."""
  return not segment.startswith(b"Adobe") or (len(segment) >= 12 and segment[11] == 1)


CHECKS: dict[int, Callable[[bytes], bool]] = {
  **dict.fromkeys(FRAMES, _is_plain_frame),
  TABLES: _are_tables,
  APP0: _is_jfif,
  APP1: _is_upright,
  APP2: _is_single,
  APP13: _are_resources,
  APP14: _is_ycbcr,
}


def _is_plain_png(head: bytes, length: int) -> bool | None:
  """Checks a PNG file that TensorFlow has decoded, so that its data is whole."""
  if len(head) < PNG_HEADER_SIZE:
    return False
  width, height, bits, color, *methods = struct.unpack_from(">IIBBBBB", head, 16)
  if not 0 < width < PNG_SIDE or not 0 < height < PNG_SIDE or bits != 8 or color not in (0, 2, 6) or any(methods):
    return False
  at, data = 8, False
  while at + 8 <= len(head):
    size, kind = struct.unpack_from(">I4s", head, at)
    end = at + 12 + size
    if kind == b"IEND":
      return data and size == 0 and end == length
    if end > length or (NO_PIXELS.get(kind, 0) not in (None, size) and (kind, size, at) != (b"IHDR", 13, 8)):
      return False
    if kind == b"IDAT":
      data = True
    elif end > len(head):
      return None
    # Pillow takes a file with a damaged chunk for a damaged file
    elif zlib.crc32(head[at + 4 : end - 4]) != int.from_bytes(head[end - 4 : end]) or head.startswith(ORIENTED_TEXT, at + 8):
      return False
    at = end
  return None if len(head) < length else False
