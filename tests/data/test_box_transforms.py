"""Random windows of images with boxes: a box never leaves its window, never inverts, and every draw ends."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from mnv3_jax.data.transforms import annotations, box_crops, box_policies, photometric
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import UsageError

CROPS = (box_crops.iou_crop, box_crops.ssd_crop, box_crops.expand)
# text of every step
ALL = "photometric+expand(3)+iou_crop+ssd_crop(0)+flip"


@st.composite
def annotated(draw, sides=st.integers(1, 90)):
  """Draws ((height, width), boxes of an image of that size, of whole and of broken sides)."""
  height, width = draw(sides), draw(sides)
  rows = []
  for _ in range(draw(st.integers(0, 6))):
    ends = [sorted(draw(st.floats(0, n)) for _ in range(2)) for n in (height, width)]
    rows.append((ends[0][0], ends[1][0], ends[0][1], ends[1][1]))
  n = len(rows)
  crowd = [draw(st.booleans()) for _ in range(n)]
  # numbers by which a row is known again
  found = annotations.from_rows(rows, np.arange(n), crowd, np.arange(n) + 0.5)
  return (height, width), found.clipped((0, 0, height, width))


def check_in_step(found, before):
  """Asserts that rows are those of `before` with the same label: crowd and area came along."""
  known = {int(label): k for k, label in enumerate(before.labels)}
  for k, label in enumerate(found.labels):
    j = known[int(label)]
    assert found.crowd[k] == before.crowd[j] and found.area[k] == before.area[j]


def check_inside(found, window):
  top, left, bottom, right = window
  boxes = found.boxes
  assert (boxes[:, :2] >= (top, left)).all() and (boxes[:, 2:] <= (bottom, right)).all()
  assert (boxes[:, 2:] - boxes[:, :2] >= annotations.MIN_SIDE).all()


@settings(max_examples=60, deadline=None)
@given(annotated(), st.sampled_from(CROPS), st.integers(0, 2**32))
def test_windows_hold_their_boxes(example, crop, seed):
  (height, width), found = example
  window, after = crop((0, 0, height, width), found, np.random.default_rng(seed))
  assert window[2] > window[0] and window[3] > window[1]
  check_inside(after, window)
  check_in_step(after, found)
  if crop is box_crops.expand:
    assert window[0] <= 0 and window[1] <= 0 and window[2] >= height and window[3] >= width and len(after) == len(found)
    assert window[2] - window[0] <= 4 * height and window[3] - window[1] <= 4 * width
    return
  assert window[0] >= 0 and window[1] >= 0 and window[2] <= height and window[3] <= width
  if window == (0, 0, height, width):
    return
  centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
  inside = ((centres > window[:2]) & (centres < window[2:])).all(1)
  if crop is box_crops.iou_crop:
    # centre rule: exactly those, unless too little of them is left
    assert set(after.labels) <= set(found.labels[inside])
    clipped = found.take(inside).clipped(window)
    assert set(after.labels) == set(clipped.labels) and len(after)
    sides = np.array([window[2] - window[0], window[3] - window[1]])
    assert 0.5 <= sides[1] / sides[0] <= 2 and (sides >= np.floor(0.3 * np.array([height, width]))).all()
  else:
    share = (window[2] - window[0]) * (window[3] - window[1]) / (height * width)
    assert 0.1 - 1e-9 <= share <= 1


@settings(max_examples=60, deadline=None)
@given(annotated(), st.integers(0, 2**32), st.permutations(ALL.split("+")))
def test_every_order_of_steps_ends_with_boxes_inside(example, seed, words):
  (height, width), found = example
  image = Image.new("RGB", (width, height), (9, 99, 199))
  view = box_policies.parse("+".join(words))(image, found, np.random.default_rng(seed))
  check_inside(view.annotations, view.window)
  check_in_step(view.annotations, found)
  shares = view.shares()
  assert shares.dtype == np.float32 and (shares >= 0).all() and (shares <= 1).all()
  # logarithms of sides are finite in float32
  assert (shares[:, 2:] > shares[:, :2]).all()
  out = np.full((8, 9, 3), np.nan, np.float32)
  view.render(Preprocessing(), "half_pixel", out)
  assert np.isfinite(out).all() and np.abs(out).max() <= 1 + 1e-6


@pytest.mark.parametrize("boxes", [[], [[0, 0, 1, 1]], [[39, 59, 40, 60]], [[5, 5, 5.001, 5.001]]])
@pytest.mark.parametrize("crop", CROPS)
def test_images_without_boxes_or_with_one_of_a_pixel_end(crop, boxes):
  for seed in range(200):
    found = annotations.from_rows(boxes, np.zeros(len(boxes)))
    window, after = crop((0, 0, 40, 60), found, np.random.default_rng(seed))
    check_inside(after.clipped(window), window)
  if crop is box_crops.iou_crop and not boxes:
    assert window == (0, 0, 40, 60)


def test_iou_crops_reach_their_overlap(monkeypatch):
  found = annotations.from_rows([[10, 10, 60, 80], [70, 20, 95, 60]], [0, 1])
  for overlap in (0.1, 0.5, 0.9):
    monkeypatch.setattr(box_crops, "OVERLAPS", (overlap, 1.0))
    cropped = 0
    for seed in range(60):
      window, after = box_crops.iou_crop((0, 0, 100, 100), found, np.random.default_rng(seed))
      if window == (0, 0, 100, 100):
        continue
      cropped += 1
      boxes = found.boxes[after.labels]
      common = annotations.intersections(boxes, np.array([window], float))[0]
      area = (window[2] - window[0]) * (window[3] - window[1])
      assert (common / (annotations.areas(boxes) + area - common)).max() >= overlap
    # half of the draws are 1
    assert cropped > (0 if overlap > 0.8 else 15)


def test_ssd_crops_keep_what_they_cover(monkeypatch):
  found = annotations.from_rows([[10, 10, 60, 80], [70, 20, 95, 60], [0, 0, 5, 5]], [0, 1, 2])
  for overlap in (0.0, 0.5, 1.0):
    monkeypatch.setattr(box_crops, "OVERLAPS", (overlap,))
    cropped = 0
    for seed in range(60):
      window, after = box_crops.ssd_crop((0, 0, 100, 100), found, np.random.default_rng(seed), 0.0)
      share = annotations.intersections(found.boxes, np.array([window], float))[0] / annotations.areas(found.boxes)
      assert set(after.labels) == set(np.flatnonzero((share >= overlap) & (share > 0)))
      cropped += window != (0, 0, 100, 100)
      if overlap:
        assert len(after)
    assert cropped > 50
  kept = sum(box_crops.ssd_crop((0, 0, 100, 100), found, np.random.default_rng(s))[0] == (0, 0, 100, 100) for s in range(400))
  assert 30 < kept < 100


def test_boxes_follow_their_objects():
  """The color inside a box is that of its object, whatever the crop, on whatever side."""
  colors = np.array([(230, 20, 20), (20, 230, 20), (20, 20, 230)], np.uint8)
  pixels = np.full((120, 160, 3), 128, np.uint8)
  rows = [(10, 20, 50, 60), (60, 90, 110, 150), (15, 100, 45, 140)]
  for k, (top, left, bottom, right) in enumerate(rows):
    pixels[top:bottom, left:right] = colors[k]
  image, seen = Image.fromarray(pixels), 0
  policy = box_policies.parse("expand(2)+iou_crop+flip")
  for seed in range(40):
    view = policy(image, annotations.from_rows(rows, [0, 1, 2]), np.random.default_rng(seed))
    out = np.zeros((200, 200, 3), np.float32)
    view.render(Preprocessing(), "half_pixel", out)
    shown = Preprocessing().denormalize(out)
    for box, label in zip(view.shares(), view.annotations.labels, strict=True):
      top, left, bottom, right = box * 200
      if min(bottom - top, right - left) > 12:
        middle = shown[int(top) + 5 : int(bottom) - 5, int(left) + 5 : int(right) - 5].reshape(-1, 3)
        assert np.abs(middle.astype(int) - colors[label]).max() <= 1
        seen += 1
  assert seen > 40


def test_draws_depend_on_the_generator_alone():
  image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8))
  found, policy = annotations.from_rows([[4, 5, 30, 40]], [1]), box_policies.parse(ALL)
  drawn = []
  for seed in (3, 3, 4):
    out = np.zeros((16, 16, 3), np.float32)
    view = policy(image, found, np.random.default_rng([0, 1, seed]))
    view.render(Preprocessing(), "legacy", out)
    drawn.append((out, view.shares()))
  assert np.array_equal(drawn[0][0], drawn[1][0]) and np.array_equal(drawn[0][1], drawn[1][1])
  assert not np.array_equal(drawn[0][0], drawn[2][0])


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_boxes_turn_as_pixels_do(turn):
  pixels = np.zeros((30, 50), np.uint8)
  pixels[4:9, 20:45] = 255
  turned = np.asarray(Image.fromarray(pixels).transpose(turn))
  rows, columns = np.flatnonzero(turned.any(1)), np.flatnonzero(turned.any(0))
  box = annotations.turned(np.array([[4.0, 20, 9, 45]]), turn, (30, 50))[0]
  assert box.tolist() == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]


def test_photometric_distortions_change_colors_alone():
  image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8))
  rng = np.random.default_rng(0)
  changed = [photometric.distort(image, rng) for _ in range(30)]
  assert {one.size for one in changed} == {(30, 20)} and {one.mode for one in changed} == {"RGB"}
  assert 20 < sum(one.tobytes() != image.tobytes() for one in changed) <= 30
  assert photometric.distort(image, rng, 0.0).tobytes() == image.tobytes()
  # a turn of a third makes red green
  assert photometric.shift_hue(Image.new("RGB", (1, 1), (255, 0, 0)), 1 / 3).getpixel((0, 0)) == (0, 255, 0)


def test_the_largest_rows_stay_in_order():
  found = annotations.from_rows([[0, 0, 2, 2], [0, 0, 9, 9], [0, 0, 3, 3], [0, 0, 9, 9]], [0, 1, 2, 3])
  assert found.largest(3).labels.tolist() == [1, 2, 3] and found.largest(1).labels.tolist() == [1]
  assert found.largest(9) is found


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("flop", "'flop': did you mean 'flip'"),
    ("flip+flip", "'flip' is given twice"),
    ("expand(0.5)", "expand takes the largest factor, from 1 to 16"),
    ("flip(x)", "flip takes a probability"),
    ("flip(nan)", "flip takes a probability, from 0 to 1"),
    ("", "''"),
    ("none+flip", "'none'"),
    ("inception", "'inception'"),
  ],
)
def test_invalid_texts_are_named(text, words):
  with pytest.raises(UsageError) as error:
    box_policies.parse(text)
  assert words in str(error.value) and "images with boxes" in str(error.value)


def test_texts():
  assert box_policies.parse("none").steps == ()
  assert box_policies.parse("flip+ssd_crop(0.2)").steps == (("flip", 0.5), ("ssd_crop", 0.2))
