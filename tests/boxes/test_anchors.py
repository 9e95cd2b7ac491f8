"""Anchors: those of torchvision and of TensorFlow, exactly."""

import pathlib

import cases
import numpy as np
import pytest
import reference

from mnv3_jax.architectures.conventions import TENSORFLOW, TORCHVISION
from mnv3_jax.boxes import codes
from mnv3_jax.boxes.anchors import anchors
from mnv3_jax.errors import UsageError

GOLDEN = np.load(pathlib.Path(__file__).with_name("torchvision.npz"))


@pytest.mark.parametrize(
  ("convention", "maps", "size", "number"),
  [
    (TORCHVISION, (20, 10, 5, 3, 2, 1), 320, 3234),
    (TENSORFLOW, (20, 10, 5, 3, 2, 1), 320, 2034),
    (TENSORFLOW, (19, 10, 5, 3, 2, 1), 300, 1917),
  ],
)
def test_counts(convention, maps, size, number):
  found = anchors(convention, maps, size)
  assert found.shape == (number, 4) and found.dtype == np.float32
  assert number == sum(convention.anchors_per_cell(i) * side**2 for i, side in enumerate(maps))


def test_torchvision():
  found = codes.corners(anchors(TORCHVISION, cases.MAPS, cases.INPUT)) * 320
  xyxy = np.asarray(found)[:, [1, 0, 3, 2]]
  printed = [
    (-24, -24, 40, 40),
    (-34.332, -34.332, 50.332, 50.332),
    (-37.2548, -14.6274, 53.2548, 30.6274),
    (-14.6274, -37.2548, 30.6274, 53.2548),
    (-47.4256, -10.4752, 63.4256, 26.4752),
    (-10.4752, -47.4256, 26.4752, 63.4256),
  ]
  np.testing.assert_allclose(xyxy[:6], printed, atol=5e-5)
  np.testing.assert_allclose(xyxy[-1], (72.2428, 0, 247.7572, 320), atol=5e-5)
  np.testing.assert_allclose(xyxy[:6], GOLDEN["first"], atol=1e-4)
  np.testing.assert_allclose(xyxy[-1], GOLDEN["last"], atol=1e-4)
  np.testing.assert_allclose(xyxy[::97], GOLDEN["anchors_every_97"], atol=1e-4)
  np.testing.assert_allclose((xyxy.min(), xyxy.max()), (-106.667, 426.667), atol=1e-3)


@pytest.mark.parametrize("maps", [(20, 10, 5, 3, 2, 1), (19, 10, 5, 3, 2, 1)])
def test_tensorflow(maps):
  expected = reference.anchors(maps)
  np.testing.assert_array_equal(anchors(TENSORFLOW, maps, 16 * maps[0]), expected.astype(np.float32))
  # a third is .3333 there
  third = np.abs(expected - reference.anchors(maps, 1 / 3)).max()
  assert third > 1e-5
  # never clipped, neither sides nor corners
  assert expected[:, 2:].max() > 1


def test_of_the_shorter_side():
  wide = anchors(TENSORFLOW, ((10, 20), (5, 10)), (160, 320))
  square = anchors(TENSORFLOW, (10, 5), 160)
  # squares are squares in pixels
  np.testing.assert_allclose(wide[0, 2:] * (160, 320), square[0, 2:] * 160, rtol=1e-6)
  # torchvision's are shares of each side
  np.testing.assert_allclose(anchors(TORCHVISION, ((10, 20), (5, 10)), (160, 320))[0, 2:], (0.2, 0.2), rtol=1e-6)
  assert len(wide) == 10 * 20 * 3 + 5 * 10 * 6
  # anchor of a cell fastest, then x, then y
  np.testing.assert_allclose(wide[[0, 3, 60], 1], (0.025, 0.075, 0.025))
  np.testing.assert_allclose(wide[[0, 3, 60], 0], (0.05, 0.05, 0.15))


def test_refused():
  with pytest.raises(UsageError, match=r"invalid map_sizes=\(20,\); expected at least 2 maps"):
    anchors(TENSORFLOW, (20,), 320)
  with pytest.raises(UsageError, match="expected sides of at least 1"):
    anchors(TENSORFLOW, (20, 0), 320)
