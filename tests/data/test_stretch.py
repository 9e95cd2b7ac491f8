"""Resize of detectors' images: torch's and TensorFlow's own numbers, windows, and normalization afterwards."""

import pathlib

import numpy as np
import pytest

from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.data.transforms.stretch import ROWS, stretch

# see make_stretched.py
EXPECTED = dict(np.load(pathlib.Path(__file__).parent / "expected" / "stretched.npz"))
HALF = Preprocessing()


def stretched(image, size, resize="half_pixel", window=None, preprocessing=HALF):
  out = np.full((*size, 3), np.nan, np.float32)
  stretch(image, window or (0, 0, *image.shape[:2]), preprocessing, resize, out)
  return out


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "image"])
def test_torch_and_tensorflow_have_the_same_pixels(name):
  resize, size = name.rsplit("_", 1)
  expected = EXPECTED[name]
  assert expected.shape == (*map(int, size.split("x")), 3)
  # normalized before the resize by torch, and after it by TensorFlow
  np.testing.assert_allclose(stretched(EXPECTED["image"], expected.shape[:2], resize), expected, rtol=0, atol=3e-6)


def test_the_two_rules_differ():
  image = EXPECTED["image"]
  assert np.abs(stretched(image, (8, 10)) - stretched(image, (8, 10), "legacy")).max() > 0.1


@pytest.mark.parametrize("resize", ["half_pixel", "legacy"])
@pytest.mark.parametrize("window", [(2, 3, 11, 9), (0, 0, 1, 17), (-4, -2, 9, 30), (-3, 5, 20, 6), (13, 17, 20, 24)])
def test_a_window_is_that_part_of_an_image_on_the_mean_color(resize, window):
  image = EXPECTED["image"]
  top, left, bottom, right = window
  canvas = np.full((60, 60, 3), 128, np.uint8)
  canvas[20:33, 20:37] = image
  part = canvas[20 + top : 20 + bottom, 20 + left : 20 + right]
  grey = Preprocessing(mean=(128 / 255,) * 3, std=(0.2, 0.5, 0.7))
  expected = stretched(part, (2 * ROWS + 5, 7), resize, preprocessing=grey)
  np.testing.assert_allclose(stretched(image, (2 * ROWS + 5, 7), resize, window, grey), expected, rtol=0, atol=2e-6)


def test_an_image_of_the_right_size_stays():
  image = EXPECTED["image"]
  for resize in ("half_pixel", "legacy"):
    assert np.array_equal(HALF.denormalize(stretched(image, (13, 17), resize)), image)
