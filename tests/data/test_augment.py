"""Augmentation of images in memory."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from PIL import Image

from mnv3_jax.data.transforms import augment
from mnv3_jax.errors import UsageError

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)


def test_nothing_happens_to_a_whole_image():
  np.testing.assert_allclose(augment.render(PHOTOS, augment.identity(3, 28), 28), PHOTOS, atol=1e-3)


@settings(deadline=None)
@given(strategies.integers(4, 64))
def test_resizing_is_pillows_bilinear(resolution):
  ours = augment.render(PHOTOS, augment.identity(3, 28), resolution)
  for photo, resized in zip(PHOTOS, ours, strict=True):
    pillow = np.asarray(Image.fromarray(photo).resize((resolution, resolution), Image.Resampling.BILINEAR))
    # Pillow rounds to whole grey levels after each of the two axes
    assert np.abs(resized - pillow).max() <= 1.01


@settings(deadline=None)
@given(strategies.integers(-5, 5), strategies.integers(-5, 5), strategies.booleans())
def test_whole_pixels_of_shift_move_the_image_and_fill_with_black(dy, dx, mirrored):
  draws = augment.CropParams(np.array([[dy, dx, 28, 28]], np.float32), np.array([mirrored]), np.zeros((1, 4), np.float32))
  moved = np.pad(PHOTOS[:1], ((0, 0), (5, 5), (5, 5)))[:, 5 + dy : 33 + dy, 5 + dx : 33 + dx]
  expected = moved[:, :, ::-1] if mirrored else moved
  np.testing.assert_allclose(augment.render(PHOTOS[:1], draws, 28), expected, atol=1e-3)


def test_erasing_blanks_a_rectangle_only():
  draws = augment.CropParams(
    *(getattr(augment.identity(1, 28), f) for f in ("boxes", "mirrored")), np.array([[0.25, 0.5, 0.25, 0.5]])
  )
  result = augment.render(PHOTOS[:1], draws, 28)
  expected = PHOTOS[:1].astype(float)
  expected[:, 7:14, 14:] = 0
  np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("name", sorted(augment.POLICIES))
def test_draws_are_a_function_of_seed_and_epoch_and_stay_in_bounds(name):
  rules = augment.get_policy(name)
  one, same, other = (augment.sample(rules, 500, 28, *where) for where in ((3, 1), (3, 1), (3, 2)))
  for field in ("boxes", "mirrored", "erased"):
    assert np.array_equal(getattr(one, field), getattr(same, field))
  assert np.array_equal(one.boxes, other.boxes) == (rules.shift == 0 and rules.zoom == (0, 0))
  change = one.boxes[:, 2] / 28 - 1
  assert rules.zoom[0] - 1e-5 <= change.min() and change.max() <= rules.zoom[1] + 1e-5
  assert np.abs(one.boxes[:, :2] + one.boxes[:, 2:] / 2 - 14).max() <= rules.shift + 1e-4
  assert (0.4 < one.mirrored.mean() < 0.6) if rules.flip else not one.mirrored.any()
  assert (one.erased[:, 2:] <= rules.erase + 1e-6).all() and (one.erased[:, :2] + one.erased[:, 2:] <= 1 + 1e-6).all()


def test_an_unknown_policy_is_named():
  with pytest.raises(UsageError, match=r"'flop'.*shift_flip"):
    augment.get_policy("flop")
