"""Training augmentation of images of any size, configured by a text: "inception", "crop_flip+randaugment(2,9)+erase(0.2)"."""

import dataclasses
import re
from typing import NoReturn

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.transforms.policies import AutoAugment, RandAugment
from mnv3_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Distortion:
  """Distribution of the random changes of a training image.

  Attributes:
    area: smallest and largest share of the image that the crop covers; None for the central crop of evaluation. Sampled as
      TensorFlow samples crops, by a height among the possible ones: a third of the image on average.
    aspect: smallest and largest width / height of the crop, relative to that of the result: nothing is stretched by more,
      whatever the shape of the result.
    flip: mirror half of the images.
    brightness: largest change, of 1.
    saturation: smallest and largest factor.
    policy: applied to the pixels of the crop, or None.
    erase: probability that a rectangle of 2 to 33 % of the result becomes noise (Zhong et al., 2017).
  """

  area: tuple[float, float] | None = None
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  flip: bool = False
  brightness: float = 0.0
  saturation: tuple[float, float] = (1.0, 1.0)
  policy: AutoAugment | RandAugment | None = None
  erase: float = 0.0


BASES = {
  "none": Distortion(),
  # the usual limits of torchvision and timm
  "crop_flip": Distortion(area=(0.08, 1.0), flip=True),
  # the authors' code in its fast mode, which is its default: brightness, then saturation, no hue and no contrast
  "inception": Distortion(area=(0.05, 1.0), flip=True, brightness=32 / 255, saturation=(0.5, 1.5)),
}
# optional additions with their default arguments
EXTRAS: dict[str, tuple[float, ...]] = {"autoaugment": (), "randaugment": (2.0, 9.0, 0.0), "erase": (0.25,)}


def parse(text: str) -> Distortion:
  """Parses one of BASES, followed by any of EXTRAS after plus signs.

  The arguments are randaugment(layers, magnitude from 0 to 10, standard deviation of the magnitude) and erase(probability).

  Raises:
    UsageError: naming the invalid word, and the nearest valid one.
  """
  first, *words = text.split("+")
  if first not in BASES:
    _fail(text, f"{first!r}: {nearest(first, BASES)}")
  result, seen = BASES[first], set()
  for word in words:
    match = re.fullmatch(r"(\w+)(?:\(([\d., ]*)\))?", word)
    if not match or match[1] not in EXTRAS:
      _fail(text, f"{word!r}: {nearest(word, EXTRAS)}")
    name, defaults = match[1], EXTRAS[match[1]]
    if name in seen or (name in ("autoaugment", "randaugment") and result.policy):
      _fail(text, f"{word!r} is one policy too many")
    seen.add(name)
    try:
      given = tuple(float(v) for v in (match[2] or "").split(",") if v.strip())
    except ValueError:
      _fail(text, f"{word!r} has an invalid number")
    if len(given) > len(defaults):
      _fail(text, f"{word!r} has {len(given)} numbers; expected at most {len(defaults)}")
    result = _extend(result, name, (*given, *defaults[len(given) :]), text)
  return result


def _extend(base: Distortion, name: str, values: tuple[float, ...], text: str) -> Distortion:
  """Adds one of EXTRAS to a Distortion."""
  if name == "autoaugment":
    return dataclasses.replace(base, policy=AutoAugment())
  if name == "randaugment":
    layers, magnitude, deviation = values
    if layers != int(layers) or not 1 <= layers <= 10 or magnitude > 10:
      _fail(text, "randaugment takes 1 to 10 layers and a magnitude from 0 to 10")
    return dataclasses.replace(base, policy=RandAugment(int(layers), magnitude, deviation))
  if values[0] > 1:
    _fail(text, "erase takes a probability from 0 to 1")
  return dataclasses.replace(base, erase=values[0])


def _fail(text: str, why: str) -> NoReturn:
  raise UsageError(
    f"invalid config.data.augment={text!r} for images of any size; {why}; "
    "examples: inception, crop_flip+randaugment(2,9)+erase(0.2)"
  ) from None
