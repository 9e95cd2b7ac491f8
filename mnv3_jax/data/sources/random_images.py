"""Random images as JPEG files: a stand-in for photographs where the time to read them counts, and not what they show."""

import pathlib

import numpy as np
from PIL import Image

# the usual size in ImageNet, width and height; quality with which files have 90 to 120 KB, as there
SIZE, QUALITY = (500, 375), 88
# side of the squares of each layer of noise in pixels, and its contrast
LAYERS = ((64, 60.0), (16, 30.0), (4, 15.0), (1, 6.0))


def write_random_images(folder: pathlib.Path, number: int, seed: int = 0) -> None:
  """Writes JPEG files.

  Args:
    folder: their directory; it is created.
    number: of files.
    seed: of the images.
  """
  folder.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  for i in range(number):
    noise_image(rng).save(folder / f"{i:04}.jpg", quality=QUALITY)


def noise_image(rng: np.random.Generator) -> Image.Image:
  """Returns noise at several scales, in colour: entropy at all frequencies, as in a photograph."""
  width, height = SIZE
  pixels = np.full((height, width, 3), 128.0)
  for side, contrast in LAYERS:
    small = rng.normal(128, contrast, (height // side + 1, width // side + 1, 3)).clip(0, 255).astype(np.uint8)
    pixels += np.asarray(Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC), np.float64) - 128
  return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
