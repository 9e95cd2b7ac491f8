"""Masks as people look at them."""

import colorsys

import numpy as np

from mnv3_jax.report import overlays

CLASSES = ("background", "cat", "dog")


def test_a_class_has_one_hue_over_a_photo_of_any_colours():
  palette = overlays.colours(CLASSES)
  pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
  mask = np.zeros((40, 50), np.uint8)
  mask[10:20], mask[20:30], mask[30:] = 1, 2, 255
  over = overlays.painted(pixels, mask, palette)
  assert over.shape == pixels.shape and over.dtype == np.uint8
  # the background, black, and what has no class are as they were
  clear = (mask == 0) | (mask == 255)
  assert (over[clear] == pixels[clear]).all()
  for label in (1, 2):
    hue = colorsys.rgb_to_hsv(*palette[label] / 255)[0]
    found = [colorsys.rgb_to_hsv(*pixel / 255)[0] for pixel in over[mask == label]]
    assert np.abs(np.array(found) - hue).max() < 0.03
    # light and shade are still there
    assert over[mask == label].std(0).min() > 20


def test_a_solid_mask_is_its_palette():
  palette = overlays.colours(CLASSES)
  found = overlays.solid(np.array([[0, 1], [2, 255]], np.uint8), palette)
  assert found.tolist() == [[palette[0].tolist(), palette[1].tolist()], [palette[2].tolist(), [255, 255, 255]]]
