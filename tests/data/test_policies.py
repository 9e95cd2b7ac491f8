"""AutoAugment and RandAugment: effect and strength of every operation, reproducibility."""

import numpy as np
import photographs
import pytest
from hypothesis import given, settings, strategies
from PIL import ImageEnhance, ImageOps

from mnv3_jax.data.transforms import distortions, policies
from mnv3_jax.errors import UsageError


def pixels(image):
  return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", [n for n in policies.OPERATIONS if n not in ("Identity", "Sharpness")])
def test_every_operation_changes_an_image(name):
  image = photographs.photo(4)
  changed = policies.operate(image, name, 0.9)
  assert changed.size == image.size and changed.mode == "RGB"
  assert np.abs(pixels(changed) - pixels(image)).mean() > 0.5


@pytest.mark.parametrize("name", ["Brightness", "Color", "Contrast", "Sharpness", "Rotate", "ShearX", "ShearY"])
def test_no_strength_changes_next_to_nothing(name):
  image = photographs.photo(4)
  assert np.abs(pixels(policies.operate(image, name, 0.0)) - pixels(image)).mean() < 0.5


def test_operations_are_those_of_the_paper():
  """Compares the strengths with those of torchvision 0.28 for ten bins, at bin 5."""
  image, s = photographs.photo(7, (90, 90)), 5 / 9
  expected = {
    "Brightness": ImageEnhance.Brightness(image).enhance(1.5),
    "Color": ImageEnhance.Color(image).enhance(1.5),
    "Posterize": ImageOps.posterize(image, 8 - 2),
    "Solarize": ImageOps.solarize(image, 255 - 5 * 255 / 9),
    "Equalize": ImageOps.equalize(image),
    "Rotate": image.rotate(30 * s, fillcolor=policies.GREY),
  }
  for name, found in expected.items():
    assert np.array_equal(pixels(policies.operate(image, name, s)), pixels(found)), name
  moved = pixels(policies.operate(image, "TranslateX", s))
  shift = round(150 / 331 * 90 * s)
  assert np.abs(moved[:, : 90 - shift - 1] - pixels(image)[:, shift:89]).mean() < 12
  assert (moved[:, -shift + 1 :] == 128).all()


@settings(max_examples=40, deadline=None)
@given(strategies.integers(0, 2**32), strategies.sampled_from([policies.AutoAugment(), policies.RandAugment(3, 7.0, 0.5)]))
def test_the_same_numbers_give_the_same_image(seed, policy):
  image = photographs.photo(2)
  one, two = (policy(image, np.random.default_rng(seed)) for _ in range(2))
  assert np.array_equal(pixels(one), pixels(two)) and one.size == image.size and one.mode == "RGB"


def test_texts_of_distortions():
  d = distortions.parse("inception+randaugment(3,7,0.5)+erase(0.2)")
  assert (d.area, d.flip, d.erase, d.policy) == ((0.05, 1.0), True, 0.2, policies.RandAugment(3, 7.0, 0.5))
  assert distortions.parse("crop_flip+autoaugment").policy == policies.AutoAugment()
  assert distortions.parse("none") == distortions.Distortion()
  for text in ("", "flip", "none+", "none+erase(x)", "none+erase+erase", "none+erase(0.1,0.2)", "inception+mixup"):
    with pytest.raises(UsageError, match=r"config\.data\.augment"):
      distortions.parse(text)


def test_the_table_is_complete():
  assert len(policies.IMAGENET) == 25
  assert {name for pair in policies.IMAGENET for name, _, _ in pair} <= policies.OPERATIONS.keys()
