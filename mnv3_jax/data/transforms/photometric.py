"""Photometric distortion of images with boxes, as torchvision's RandomPhotometricDistort does it with Pillow."""

import numpy as np
from PIL import Image, ImageEnhance

BRIGHTNESS, CONTRAST, SATURATION = (0.875, 1.125), (0.5, 1.5), (0.5, 1.5)
# of a turn of the color wheel
HUE = (-0.05, 0.05)


def distort(image: Image.Image, rng: np.random.Generator, probability: float = 0.5) -> Image.Image:
  """Changes brightness, contrast (before or after the next two), saturation, hue, and the order of the channels.

  Args:
    image: RGB.
    rng: random generator.
    probability: of each change.
  """
  happens = rng.random(5) < probability
  contrast_first = rng.random() < 0.5
  brightness, contrast, saturation, hue = (rng.uniform(*limits) for limits in (BRIGHTNESS, CONTRAST, SATURATION, HUE))
  order = rng.permutation(3)
  if happens[0]:
    image = ImageEnhance.Brightness(image).enhance(brightness)
  if happens[1] and contrast_first:
    image = ImageEnhance.Contrast(image).enhance(contrast)
  if happens[2]:
    image = ImageEnhance.Color(image).enhance(saturation)
  if happens[3]:
    image = shift_hue(image, hue)
  if happens[1] and not contrast_first:
    image = ImageEnhance.Contrast(image).enhance(contrast)
  if happens[4]:
    channels = image.split()
    image = Image.merge("RGB", [channels[int(i)] for i in order])
  return image


def shift_hue(image: Image.Image, share: float) -> Image.Image:
  """Shifts the hue of an RGB image by a share of the color wheel, from -0.5 to 0.5."""
  hue, saturation, value = image.convert("HSV").split()
  hue = hue.point([(i + int(share * 255)) % 256 for i in range(256)])
  return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
