"""How a network wants to see photos: the range of its input, and which part of a photo of any size it is shown."""

import dataclasses

import numpy as np
from PIL import Image

from mnv3_jax.data.transforms.decoding import colour, upright
from mnv3_jax.errors import UsageError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class View:
  """What is done to a photo before a network sees it.

  Attributes:
    mean, std: by channel, of pixels from 0 to 1; a half and a half give [-1, 1].
    crop: side of the central crop as a share of the photo's shorter side, as ImageNet is evaluated.
    interpolation: "bilinear" or "bicubic", antialiased.
  """

  mean: tuple = (0.5, 0.5, 0.5)
  std: tuple = (0.5, 0.5, 0.5)
  crop: float = 0.875
  interpolation: str = "bilinear"

  def normalised(self, pixels):
    """Pixels (..., 3) from 0 to 255 as the network takes them, float32."""
    scale = 255 * np.array(self.std)
    return pixels / scale.astype(np.float32) - self.scale_and_shift()[1]

  def scale_and_shift(self):
    """What `normalised` multiplies pixels by and then subtracts, float32: numbers, or (3,) where the channels differ."""
    values = 1 / (255 * np.array(self.std)), np.array(self.mean) / np.array(self.std)
    alike = all(len(set(v)) == 1 for v in values)
    return tuple((v[0] if alike else v).astype(np.float32) for v in values)

  def pixels(self, x):
    """What `normalised` made, as pixels again, (..., 3) uint8."""
    return np.uint8(np.round(np.clip((x * np.array(self.std) + np.array(self.mean)) * 255, 0, 255)))

  def photo(self, image, resolution):
    """A PIL image of any size and mode as the network sees it: (resolution, resolution, 3) float32."""
    image = colour(upright(image))
    # the shorter side and then the crop, rounded as torchvision and timm do
    side = int(resolution / self.crop + 1e-6)
    width, height = image.size
    width, height = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    image = image.resize((width, height), FILTERS[self.interpolation])
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    image = image.crop((left, top, left + resolution, top + resolution))
    return self.normalised(np.asarray(image, np.float32))


def of(data):
  """The View of config.data, where None is the default.

  Raises:
    UsageError: for a value that is not possible.
  """
  given = {f.name: data[f.name] for f in dataclasses.fields(View) if data[f.name] is not None}
  view = View(**{k: tuple(v) if k in ("mean", "std") else v for k, v in given.items()})
  for name in ("mean", "std"):
    value = getattr(view, name)
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if len(value) != 3 or not numbers or not all(np.isfinite(value)) or (name == "std" and min(value) <= 0):
      raise UsageError(f"config.data.{name} = {value!r} is not possible; allowed: three numbers" + " above 0" * (name == "std"))
  if not 0.1 <= view.crop <= 1:
    raise UsageError(f"config.data.crop = {view.crop!r} is not possible; allowed: 0.1 to 1")
  if view.interpolation not in FILTERS:
    raise UsageError(f"config.data.interpolation = {view.interpolation!r} is not possible; choose {' or '.join(FILTERS)}")
  return view
