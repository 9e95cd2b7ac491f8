"""A photo of any size inside an image of a fixed one, and a mask of that image back at the photo's size."""

import numpy as np
from PIL import Image


def placed(photo, size):
  """(height, width) of the part of an image of `size` that a photo of (height, width) fills, top left, keeping its aspect."""
  scale = min(n / m for n, m in zip(size, photo, strict=True))
  return tuple(min(max(round(m * scale), 1), n) for n, m in zip(size, photo, strict=True))


def fit(image, size, fill):
  """A PIL image of any size inside (height, width): top left, scaled to fit, the rest filled with `fill`."""
  height, width = placed(image.size[::-1], size)
  whole = Image.new(image.mode, size[::-1], fill)
  whole.paste(image.resize((width, height), Image.Resampling.BILINEAR), (0, 0))
  return whole


def unfit(mask, photo):
  """A mask (h, w) uint8 of an image that `fit` has made, at the photo's own (height, width): nearest neighbours."""
  height, width = placed(photo, mask.shape)
  part = Image.fromarray(np.ascontiguousarray(mask[:height, :width]))
  return np.asarray(part.resize(photo[::-1], Image.Resampling.NEAREST))
