"""Crops: parsing, and alignment of image and mask at every scale, corner and size."""

import itertools

import numpy as np
import pairs
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from mnv3_jax.data.transforms import crops, preprocessing
from mnv3_jax.data.transforms.crops import Crop, CropPolicy
from mnv3_jax.errors import UsageError

VIEW = preprocessing.Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def shown(image, labels, crop, side, view=VIEW):
  # what was there before must not be seen
  pixels, truth = np.full((*side, 3), 77, np.float32), np.full(side, 77, np.int32)
  crops.render_crop(image, labels, crop, view, pixels, truth)
  return pixels, truth


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("none", CropPolicy()),
    ("flip", CropPolicy(flip=True)),
    ("scale(0.5,2.0)", CropPolicy((0.5, 2.0))),
    ("scale(0.5,2.0)+flip", CropPolicy((0.5, 2.0), True)),
    ("flip+scale(1,1)", CropPolicy((1.0, 1.0), True)),
    ("scale( .75, 1.25 )", CropPolicy((0.75, 1.25))),
  ],
)
def test_texts(text, expected):
  assert crops.parse(text) == expected


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("flips", "'flips': did you mean 'flip'?"),
    ("inception", "'inception': choose one of scale, flip, none"),
    ("", "'': choose one of"),
    ("flip+none", "'none': did you mean 'none'?"),
    ("flip+flip", "'flip' is given twice"),
    ("flip(2)", "flip takes no numbers"),
    ("scale", "two numbers"),
    ("scale(0.5)", "two numbers"),
    ("scale(0.5,x)", "two numbers"),
    ("scale(2.0,0.5)", "from 0.25 to 4.0"),
    ("scale(0.5,9)", "from 0.25 to 4.0"),
    ("scale(nan,1)", "from 0.25 to 4.0"),
    ("scale(0.5,0.9)", "a multiple of 0.25"),
  ],
)
def test_invalid_texts(text, words):
  with pytest.raises(UsageError, match=r"examples: scale\(0.5,2.0\)\+flip") as error:
    crops.parse(text)
  assert words in str(error.value) and repr(text) in str(error.value)


def test_all_factors_and_places_are_as_likely():
  drawn = [CropPolicy((0.5, 2.0), True).draw(np.random.default_rng(i), (40, 60), (30, 30)) for i in range(7000)]
  heights, counts = np.unique([crop.scaled for crop in drawn], axis=0, return_counts=True)
  assert heights.tolist() == [[20, 30], [30, 45], [40, 60], [50, 75], [60, 90], [70, 105], [80, 120]]
  # a seventh is 1000; five standard deviations
  assert np.abs(counts - 1000).max() < 147
  assert abs(sum(crop.flipped for crop in drawn) - 3500) < 210
  tops = np.array([crop.corner for crop in drawn if crop.scaled == (80, 120)])
  assert tops.min(0).tolist() == [0, 0] and tops.max(0).tolist() == [50, 90]
  assert {crop.corner for crop in drawn if crop.scaled == (20, 30)} == {(0, 0)}


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_an_image_and_its_mask_stay_together(data):
  size, side = (data.draw(st.tuples(st.integers(1, 80), st.integers(1, 80))) for _ in range(2))
  crop = CropPolicy((0.5, 2.0), True).draw(np.random.default_rng(data.draw(st.integers(0, 2**32))), size, side)
  # where a pixel is is its colour and its label
  y, x = np.mgrid[: size[0], : size[1]].astype(np.uint8)
  image = Image.fromarray(np.stack([3 * y, 3 * x, 0 * y], -1))
  there = np.zeros(side, bool)
  there[: min(crop.scaled[0], side[0]), : min(crop.scaled[1], side[1])] = True
  rows, columns = np.mgrid[: side[0], : side[1]]
  if crop.flipped:
    there, columns = there[:, ::-1], columns[:, ::-1]
  for channel, (labels, at) in enumerate(((y, rows), (x, columns))):
    pixels, truth = shown(image, labels, crop, side)
    assert (truth[~there] == 255).all() and (pixels[~there] == 0).all()
    n, whole = size[channel], crop.scaled[channel]
    place = np.clip((at + crop.corner[channel] + 0.5) * n / whole - 0.5, 0, n - 1)
    assert np.abs(truth - place)[there].max() <= 0.5 + 1e-9
    colour = (pixels[..., channel] * VIEW.std[channel] + VIEW.mean[channel]) * 255
    # at the photo's edges antialiasing leans inwards
    assert np.abs(colour - 3 * place)[there].max() <= 3


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.0, 1.25, 1.75, 2.0])
@pytest.mark.parametrize("flipped", [False, True])
def test_colors_agree_with_labels_away_from_edges(factor, flipped):
  # blocks of 16 pixels
  ids = np.kron(pairs.labels(5, (48, 64)), np.ones((2, 2), np.uint8))
  crop = Crop(tuple(round(n * factor) for n in ids.shape), (5, 9), flipped)
  pixels, truth = shown(pairs.painted(ids), ids, crop, (70, 60), preprocessing.Preprocessing())
  colours = np.asarray(pairs.painted(np.arange(256, dtype=np.uint8)[None]))[0]
  agree = np.abs(preprocessing.Preprocessing().denormalize(pixels).astype(int) - colours[truth]).max(-1) <= 1
  away = truth < 255
  if factor != 1:
    for shift in itertools.product((-2, 0, 2), repeat=2):
      away &= np.roll(truth, shift, (0, 1)) == truth
  assert agree[away].all() and away.mean() > 0.05


def test_mirrored_is_mirrored():
  ids = pairs.labels(0, (40, 56))
  image = pairs.painted(ids)
  one, other = (shown(image, ids, Crop((60, 84), (7, 3), flipped), (50, 90)) for flipped in (False, True))
  assert np.array_equal(one[0][:, ::-1], other[0]) and np.array_equal(one[1][:, ::-1], other[1])
  assert (one[1][:, 81:] == 255).all() and (one[0][:, 81:] == 0).all() and (one[1][:, :81] < 255).all()


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 1.5, 1.75, 2.0])
def test_a_scaled_crop_is_a_crop_of_the_scaled_image(factor):
  rng = np.random.default_rng(0)
  image = Image.fromarray(rng.integers(0, 256, (173, 211, 3), np.uint8))
  labels = np.zeros((173, 211), np.uint8)
  height, width = round(173 * factor), round(211 * factor)
  whole = image.resize((width, height), Image.Resampling.BILINEAR)
  for corner in ((0, 0), (11, 23), (height - 64, width - 64)):
    pixels, _ = shown(image, labels, Crop((height, width), corner), (64, 64), preprocessing.Preprocessing())
    part = np.asarray(whole)[corner[0] : corner[0] + 64, corner[1] : corner[1] + 64]
    assert np.abs(preprocessing.Preprocessing().denormalize(pixels).astype(int) - part).max() <= 1
