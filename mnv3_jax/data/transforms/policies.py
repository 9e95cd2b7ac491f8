"""AutoAugment and RandAugment, on Pillow's operations, as their papers define them.

The random choices for an image depend on (seed, epoch, its index) alone.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

# amounts at full strength; SHIFT as a share of the side
SHEAR, SHIFT, DEGREES, ENHANCE = 0.3, 150 / 331, 30.0, 0.9
# fill of pixels from beyond the edge, as in the authors' code
GREY = (128, 128, 128)


def _affine(image: Image.Image, matrix: tuple[float | int, ...]) -> Image.Image:
  return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=GREY)


def _shear(x: int, y: int) -> Callable[[Image.Image, float], Image.Image]:
  return lambda image, v: _affine(image, (1, x * v, 0, y * v, 1, 0))


def _translate(x: int, y: int) -> Callable[[Image.Image, float], Image.Image]:
  return lambda image, v: _affine(image, (1, 0, x * v * image.width, 0, 1, y * v * image.height))


def _enhance(enhancer: Callable) -> Callable[[Image.Image, float], Image.Image]:
  return lambda image, v: enhancer(image).enhance(1 + v)


# name: (signed, strength from 0 to 1 -> amount, image and amount -> image)
OPERATIONS: dict[str, tuple[bool, Callable, Callable]] = {
  "ShearX": (True, lambda s: SHEAR * s, _shear(1, 0)),
  "ShearY": (True, lambda s: SHEAR * s, _shear(0, 1)),
  "TranslateX": (True, lambda s: SHIFT * s, _translate(1, 0)),
  "TranslateY": (True, lambda s: SHIFT * s, _translate(0, 1)),
  "Rotate": (True, lambda s: DEGREES * s, lambda image, v: image.rotate(v, fillcolor=GREY)),
  "Brightness": (True, lambda s: ENHANCE * s, _enhance(ImageEnhance.Brightness)),
  "Color": (True, lambda s: ENHANCE * s, _enhance(ImageEnhance.Color)),
  "Contrast": (True, lambda s: ENHANCE * s, _enhance(ImageEnhance.Contrast)),
  "Sharpness": (True, lambda s: ENHANCE * s, _enhance(ImageEnhance.Sharpness)),
  "Posterize": (False, lambda s: 8 - round(4 * s), lambda image, v: ImageOps.posterize(image, v)),
  "Solarize": (False, lambda s: 255 * (1 - s), lambda image, v: ImageOps.solarize(image, v)),
  "AutoContrast": (False, lambda s: None, lambda image, v: ImageOps.autocontrast(image)),
  "Equalize": (False, lambda s: None, lambda image, v: ImageOps.equalize(image)),
  "Invert": (False, lambda s: None, lambda image, v: ImageOps.invert(image)),
  "Identity": (False, lambda s: None, lambda image, v: image),
}


def operate(image: Image.Image, name: str, strength: float, sign: int = 1) -> Image.Image:
  """Applies one of OPERATIONS to an RGB image; `strength` from 0 to 1, `sign` 1 or -1."""
  signed, amount, apply = OPERATIONS[name]
  value = amount(strength)
  return apply(image, sign * value if signed else value)


@dataclasses.dataclass(frozen=True)
class RandAugment:
  """Random operations of equal strength (Cubuk et al., 2019).

  Attributes:
    layers: operations per image, drawn anew for each.
    magnitude: strength from 0 to 10.
    deviation: standard deviation of the magnitude, which then differs by operation (timm's mstd).
  """

  layers: int = 2
  magnitude: float = 9.0
  deviation: float = 0.0

  NAMES: ClassVar[tuple[str, ...]] = tuple(name for name in OPERATIONS if name != "Invert")

  def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Augments an RGB image."""
    for _ in range(self.layers):
      name, sign = self.NAMES[rng.integers(len(self.NAMES))], int(rng.choice((-1, 1)))
      strength = float(np.clip(rng.normal(self.magnitude, self.deviation) / 10, 0, 1))
      image = operate(image, name, strength, sign)
    return image


@dataclasses.dataclass(frozen=True)
class AutoAugment:
  """The policy found on ImageNet: one of 25 pairs of operations per image (Cubuk et al., 2018)."""

  def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Augments an RGB image."""
    for name, probability, level in IMAGENET[rng.integers(len(IMAGENET))]:
      happens, sign = rng.random() < probability, int(rng.choice((-1, 1)))
      if happens:
        # ten levels, the last of which is the full strength
        image = operate(image, name, level / 9, sign)
    return image


# (operation, probability, level from 0 to 9), the table of the paper's appendix
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
