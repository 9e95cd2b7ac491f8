"""Sizes that are no squares: central crops, augmentation and batches of classifiers."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.data.transforms import augment
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.run import with_classes

sides = st.integers(1, 300)


@given(sides, sides, sides, sides, st.sampled_from([0.5, 0.875, 0.95, 1.0]))
@settings(max_examples=200, deadline=None)
def test_the_resized_image_just_covers_the_crop(height, width, rows, columns, crop):
  found = Preprocessing(crop=crop).covering_size((height, width), (rows, columns))
  least = tuple(int(n / crop + 1e-6) for n in (rows, columns))
  assert all(f >= n for f, n in zip(found, least, strict=True))
  # by one factor: one side is that of the crop, the other within a pixel of its aspect ratio
  assert least[0] == found[0] or least[1] == found[1]
  factor = max(least[0] / height, least[1] / width)
  assert abs(found[0] - factor * height) <= 1 and abs(found[1] - factor * width) <= 1


@given(sides, sides, st.integers(1, 300), st.sampled_from([0.5, 0.875, 1.0]))
@settings(max_examples=200, deadline=None)
def test_a_square_is_as_torchvision_resizes(height, width, side, crop):
  short = int(side / crop + 1e-6)
  expected = (int(short * height / width), short) if width <= height else (short, int(short * width / height))
  assert Preprocessing(crop=crop).covering_size((height, width), side) == expected


@pytest.mark.parametrize(("size", "shape"), [((40, 60), (40, 60, 3)), ((60, 40), (60, 40, 3)), (48, (48, 48, 3))])
def test_a_crop_keeps_proportions(size, shape):
  y, x = np.mgrid[:120, :200]
  disc = np.where((y - 60) ** 2 + (x - 100) ** 2 < 30**2, 255, 0).astype(np.uint8)
  seen = Preprocessing(crop=1.0).central_crop(Image.fromarray(disc), size)
  assert seen.shape == shape
  inside = seen[..., 0] > 0
  height, width = inside.any(1).sum(), inside.any(0).sum()
  # round still, and in the middle
  assert abs(int(height) - int(width)) <= 1
  assert np.abs(np.argwhere(inside).mean(0) - (np.array(shape[:2]) - 1) / 2).max() < 0.6


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
def test_embedded_images_are_not_stretched(size):
  image = np.full((1, 28, 28), 200, np.uint8)
  seen = augment.render(image, augment.identity(1, 28), size)[0]
  middle = slice((40 - 16) // 2 + 1, (40 + 16) // 2 - 1)
  seen = seen if size == (16, 40) else seen.T
  assert seen.shape == (16, 40)
  np.testing.assert_allclose(seen[1:-1, middle], 200, atol=1e-3)
  assert seen[:, :11].max() == seen[:, -11:].max() == 0


@pytest.mark.parametrize("augmentation", ["none", "shift_zoom_flip_erase"])
def test_batches_of_the_embedded_images(augmentation):
  config = base()
  config.model.update({"resolution": 16, "resolution_width": 24})
  config.data.update({"train_split": "train[:16]", "eval_split": "test[:8]", "augment": augmentation})
  config.train.batch_size = 4
  data = jobs.open_dataset(with_classes(config))
  assert next(data.train_batches(0))["image"].shape == (4, 16, 24, 3)
  assert next(data.eval_batches(4))["image"].shape == (4, 16, 24, 3)
  assert data.preprocess(Image.new("RGB", (30, 50))).shape == (16, 24, 3)


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["none", "crop_flip", "inception", "crop_flip+randaugment(2,9)+erase"])
def test_batches_of_files(augmentation, tmp_path):
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for name in "ab":
      folder = tmp_path / split / name
      folder.mkdir(parents=True)
      for i in range(2):
        pixels = rng.integers(0, 256, (*rng.integers(30, 90, 2), 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
  config = base()
  config.model.update({"resolution": 24, "resolution_width": 40})
  config.data.update({"dataset": "folder", "dir": str(tmp_path), "augment": augmentation})
  config.train.batch_size = 4
  data = jobs.open_dataset(with_classes(config))
  assert next(data.train_batches(0))["image"].shape == (4, 24, 40, 3)
  (batch,) = data.eval_batches(4)
  assert batch["image"].shape == (4, 24, 40, 3)
  if augmentation == "none":
    # of the same crop: training resizes without antialiasing
    train = next(data.train_batches(0))
    assert np.isfinite(train["image"]).all() and abs(train["image"].mean() - batch["image"].mean()) < 0.1
