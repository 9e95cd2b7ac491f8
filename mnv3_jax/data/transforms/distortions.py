"""What may happen to a training photo of any size, as a value: "inception", "crop_flip+randaugment(2,9)+erase(0.2)"."""

import dataclasses
import re

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.transforms import policies
from mnv3_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Distortion:
  """One way to distort photos.

  Attributes:
    area: least and greatest share of the photo that the crop covers; None for the central crop, as in evaluation. Drawn as
      TensorFlow draws crops, a height between those that are possible: a third of the photo on average.
    aspect: least and greatest width / height of the crop.
    flip: whether half of the photos are mirrored.
    brightness: largest change, of 1.
    saturation: least and greatest factor.
    policy: None, or what changes the pixels of a crop: a policies.AutoAugment or policies.RandAugment.
    erase: probability that a rectangle of 2 to 33 % of the result becomes noise (Zhong et al., 2017).
  """

  area: tuple | None = None
  aspect: tuple = (3 / 4, 4 / 3)
  flip: bool = False
  brightness: float = 0.0
  saturation: tuple = (1.0, 1.0)
  policy: object = None
  erase: float = 0.0


BASES = {
  "none": Distortion(),
  # the limits that are usual in torchvision and timm
  "crop_flip": Distortion(area=(0.08, 1.0), flip=True),
  # the authors' code in its fast mode, which is its default: brightness, then saturation, no hue and no contrast
  "inception": Distortion(area=(0.05, 1.0), flip=True, brightness=32 / 255, saturation=(0.5, 1.5)),
}
# what may follow, with default arguments
EXTRAS = {"autoaugment": (), "randaugment": (2, 9, 0.0), "erase": (0.25,)}


def parse(text):
  """The Distortion of a text: one of BASES, then any of EXTRAS after plus signs.

  randaugment(layers, magnitude of 10, its standard deviation); erase(probability).

  Raises:
    UsageError: naming the word that is none, and the nearest.
  """
  first, *words = text.split("+")
  if first not in BASES:
    raise _impossible(text, f"{first!r}: {nearest(first, BASES)}")
  result, seen = BASES[first], set()
  for word in words:
    match = re.fullmatch(r"(\w+)(?:\(([\d., ]*)\))?", word)
    if not match or match[1] not in EXTRAS:
      raise _impossible(text, f"{word!r}: {nearest(word, EXTRAS)}")
    name, defaults = match[1], EXTRAS[match[1]]
    if name in seen or (name in ("autoaugment", "randaugment") and result.policy):
      raise _impossible(text, f"{word!r} is one policy too many")
    seen.add(name)
    try:
      given = tuple(float(v) for v in (match[2] or "").split(",") if v.strip())
    except ValueError:
      raise _impossible(text, f"the numbers of {word!r}") from None
    if len(given) > len(defaults):
      raise _impossible(text, f"{word!r} takes {len(defaults)} numbers")
    result = _extended(result, name, (*given, *defaults[len(given) :]), text)
  return result


def _extended(base, name, values, text):
  if name == "autoaugment":
    return dataclasses.replace(base, policy=policies.AutoAugment())
  if name == "randaugment":
    layers, magnitude, deviation = values
    if layers != int(layers) or not 1 <= layers <= 10 or magnitude > 10:
      raise _impossible(text, "randaugment takes 1 to 10 layers and a magnitude of 0 to 10")
    return dataclasses.replace(base, policy=policies.RandAugment(int(layers), magnitude, deviation))
  if values[0] > 1:
    raise _impossible(text, "erase takes a probability")
  return dataclasses.replace(base, erase=values[0])


def _impossible(text, why):
  return UsageError(
    f"config.data.augment = {text!r} is not possible for photos of any size; {why}; "
    "examples: inception, crop_flip+randaugment(2,9)+erase(0.2)"
  )
