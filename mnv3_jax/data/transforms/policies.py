"""AutoAugment and RandAugment, on Pillow's operations, as their papers defined them.

What happens to a photo depends on (seed, epoch, its index) alone.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

# of an operation of full strength; SHIFT as a share of the side
SHEAR, SHIFT, DEGREES, ENHANCE = 0.3, 150 / 331, 30.0, 0.9
# what comes into view from beyond the edge, as in the authors' code
GREY = (128, 128, 128)


def _affine(image, matrix):
  return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=GREY)


def _sheared(x, y):
  return lambda image, v: _affine(image, (1, x * v, 0, y * v, 1, 0))


def _shifted(x, y):
  def apply(image, v):
    return _affine(image, (1, 0, x * v * image.width, 0, 1, y * v * image.height))

  return apply


def _enhanced(kind):
  return lambda image, v: kind(image).enhance(1 + v)


# name: (signed, strength from 0 to 1 -> amount, image and amount -> image)
OPERATIONS = {
  "ShearX": (True, lambda s: SHEAR * s, _sheared(1, 0)),
  "ShearY": (True, lambda s: SHEAR * s, _sheared(0, 1)),
  "TranslateX": (True, lambda s: SHIFT * s, _shifted(1, 0)),
  "TranslateY": (True, lambda s: SHIFT * s, _shifted(0, 1)),
  "Rotate": (True, lambda s: DEGREES * s, lambda image, v: image.rotate(v, fillcolor=GREY)),
  "Brightness": (True, lambda s: ENHANCE * s, _enhanced(ImageEnhance.Brightness)),
  "Color": (True, lambda s: ENHANCE * s, _enhanced(ImageEnhance.Color)),
  "Contrast": (True, lambda s: ENHANCE * s, _enhanced(ImageEnhance.Contrast)),
  "Sharpness": (True, lambda s: ENHANCE * s, _enhanced(ImageEnhance.Sharpness)),
  "Posterize": (False, lambda s: 8 - round(4 * s), lambda image, v: ImageOps.posterize(image, v)),
  "Solarize": (False, lambda s: 255 * (1 - s), lambda image, v: ImageOps.solarize(image, v)),
  "AutoContrast": (False, lambda s: None, lambda image, v: ImageOps.autocontrast(image)),
  "Equalize": (False, lambda s: None, lambda image, v: ImageOps.equalize(image)),
  "Invert": (False, lambda s: None, lambda image, v: ImageOps.invert(image)),
  "Identity": (False, lambda s: None, lambda image, v: image),
}


def operate(image, name, strength, sign=1):
  """A PIL RGB image after one of OPERATIONS; `strength` from 0 to 1, `sign` 1 or -1."""
  signed, amount, apply = OPERATIONS[name]
  value = amount(strength)
  return apply(image, sign * value if signed else value)


@dataclasses.dataclass(frozen=True)
class RandAugment:
  """Cubuk et al., 2019: some operations, each of the same strength.

  Attributes:
    layers: operations that a photo goes through, drawn anew for each.
    magnitude: of 10.
    deviation: standard deviation of the magnitude, which differs by operation then (timm's mstd).
  """

  layers: int = 2
  magnitude: float = 9
  deviation: float = 0.0

  NAMES = tuple(name for name in OPERATIONS if name != "Invert")

  def __call__(self, image, rng):
    """A PIL RGB image and a NumPy generator -> the image."""
    for _ in range(self.layers):
      name, sign = self.NAMES[rng.integers(len(self.NAMES))], rng.choice((-1, 1))
      strength = np.clip(rng.normal(self.magnitude, self.deviation) / 10, 0, 1)
      image = operate(image, name, strength, sign)
    return image


@dataclasses.dataclass(frozen=True)
class AutoAugment:
  """Cubuk et al., 2018: one of the 25 pairs that were found on ImageNet."""

  def __call__(self, image, rng):
    """As RandAugment.__call__."""
    for name, probability, bin_ in IMAGENET[rng.integers(len(IMAGENET))]:
      happens, sign = rng.random() < probability, rng.choice((-1, 1))
      if happens:
        # ten bins, the last of which is the full strength
        image = operate(image, name, bin_ / 9, sign)
    return image


# (operation, probability, bin of its strength), the table of the paper's appendix
IMAGENET = (
  (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
  (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
  (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
  (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
  (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
  (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
  (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)),
  (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
  (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
  (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
  (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
  (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
  (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)),
  (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
  (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
  (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
  (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
  (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
  (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)),
  (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
  (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
  (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
  (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
  (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
  (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)
