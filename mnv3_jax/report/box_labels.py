"""Text labels of boxes on an image: a font that has the characters, and positions with little overlap."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import font_manager, get_data_path
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from mnv3_jax.names import printable

FONT = f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf"
ELLIPSIS = "…"
# weights of overlap: with labels, which hides text, with the label's own box, which may be small, and with other boxes
ON_LABEL, ON_OWN, ON_BOX = 20.0, 0.7, 1.0


@functools.lru_cache(maxsize=32)
def _characters(path: str) -> frozenset[int]:
  try:
    return frozenset(FT2Font(path).get_charmap())
  except (OSError, RuntimeError):
    return frozenset()


@functools.lru_cache(maxsize=256)
def _font_path(text: str) -> str:
  """Returns the font with the most characters of a text: matplotlib's own, or the first one of the system that has all."""
  wanted = {ord(c) for c in text}
  best, most = FONT, len(wanted & _characters(FONT))
  if most < len(wanted):
    for path in sorted({entry.fname for entry in font_manager.fontManager.ttflist}):
      # a font of placeholders has every character
      found = 0 if "LastResort" in path else len(wanted & _characters(path))
      if found > most:
        best, most = path, found
      if most == len(wanted):
        break
  return best


def text_and_font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
  """Returns a text and a font that draws it; characters that no font has are written as "\\u72d7".

  Args:
    text: of any characters.
    size: in pixels.
  """
  text = printable(" ".join(text.split()))
  path = _font_path(text)
  known = _characters(path)
  shown = "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in text)
  return shown, ImageFont.truetype(path, size)


def fitted(name: str, score: str, size: int, width: float) -> tuple[str, ImageFont.FreeTypeFont]:
  """Returns "name score", the name shortened so that the text is `width` pixels at most; "" if it cannot be; and its font."""
  name, font = text_and_font(name, size)
  text = f"{name} {score}".rstrip()
  while font.getlength(text) > width:
    if not name:
      return "", font
    name = name[:-1].rstrip()
    text = f"{name}{ELLIPSIS} {score}".rstrip() if name else score
  return text, font


def place(boxes: Float[np.ndarray, "n 4"], sizes: Float[np.ndarray, "n 2"], frame: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
  """Places a label at each box, inside the image and away from earlier labels.

  Args:
    boxes: [xmin, ymin, xmax, ymax] in pixels, the most important first.
    sizes: (width, height) of each label, at most those of the image.
    frame: (width, height) of the image.

  Returns:
    [xmin, ymin, xmax, ymax] of each label.
  """
  placed: list[np.ndarray] = []
  for i, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
    candidates = _candidates(box, size, frame)
    taken = np.array(placed).reshape(-1, 4)
    cost = ON_LABEL * _common(candidates, taken) + ON_BOX * _common(candidates, np.delete(boxes, i, 0))
    cost += ON_OWN * _common(candidates, box[None])
    # a candidate further down the list only where it is better by a tenth of the label
    cost += 0.1 * size.prod() * np.arange(len(candidates)) / len(candidates)
    placed.append(candidates[int(cost.argmin())])
  return np.array(placed).reshape(-1, 4)


def _candidates(box: np.ndarray, size: np.ndarray, frame: tuple[int, int]) -> Float[np.ndarray, "c 4"]:
  """Returns positions of a label: over the box, in its upper corners, under it, in its lower corners, then along its sides."""
  (xmin, ymin, xmax, ymax), (width, height) = box, size
  rows = [ymin - height, ymin, ymax, ymax - height, *np.linspace(ymin, ymax - height, 6)[1:-1]]
  corners = [(x, y) for y in rows for x in (xmin, xmax - width)]
  corners += [(x, y) for y in np.linspace(ymin, ymax - height, 6) for x in (xmin - width, xmax)]
  low = np.clip(np.array(corners), 0, np.maximum(np.array(frame) - size, 0))
  return np.concatenate([low, low + size], 1)


def _common(a: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, " n"]:
  """Returns the area that each box has in common with others, summed over them."""
  low, high = np.maximum(a[:, None, :2], others[:, :2]), np.minimum(a[:, None, 2:], others[:, 2:])
  return np.maximum(high - low, 0).prod(-1).sum(1)


def widest(texts: Sequence[str], size: int) -> float:
  """Returns the width of the widest text in pixels."""
  return max((font.getlength(shown) for shown, font in (text_and_font(text, size) for text in texts)), default=0.0)
