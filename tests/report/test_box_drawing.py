"""Boxes as people look at them."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from mnv3_jax.report import box_drawing, box_labels, overlays
from mnv3_jax.report.box_drawing import DrawnBoxes
from mnv3_jax.tasks.detection_predictions import BoxesPrediction, boxes_prediction

CLASSES = ("person", "dog", "собака", "狗 \N{PILE OF POO}", "a name that is longer than any photo is wide " * 5)


def photo(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_boxes(n, height, width, seed=0):
  rng = np.random.default_rng(seed)
  low = rng.random((n, 2)) * [width, height] * 0.8
  boxes = np.concatenate([low, np.minimum(low + rng.random((n, 2)) * [width, height], [width, height])], 1)
  return DrawnBoxes(boxes, rng.integers(0, len(CLASSES), n), np.sort(rng.random(n))[::-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(20, 900), st.integers(20, 900), st.integers(0, 1000))
def test_every_label_is_inside_the_picture(n, height, width, seed):
  rng = np.random.default_rng(seed)
  sizes = np.minimum(rng.uniform(5, 300, (n, 2)), [width, height])
  boxes = random_boxes(n, height, width, seed).boxes
  places = box_labels.place(boxes, sizes, (width, height))
  assert places.shape == (n, 4) and (places >= 0).all() and (places[:, 2:] <= np.array([width, height]) + 1e-9).all()
  assert (places[:, 2:] - places[:, :2]) == pytest.approx(sizes)


def test_labels_of_boxes_on_each_other_do_not_overlap():
  boxes = np.array([[100.0, 100, 300, 300]] * 6) + np.arange(6)[:, None]
  places = box_labels.place(boxes, np.array([[80.0, 20]] * 6), (640, 480))
  assert np.triu(np.stack([box_labels._common(places, place[None]) for place in places]), 1).max() == 0
  # and each touches its own box
  assert all(
    box_labels._common(place[None] + [-1, -1, 1, 1], box[None])[0] > 0 for place, box in zip(places, boxes, strict=True)
  )


@pytest.mark.parametrize("height, width", [(480, 640), (48, 64), (3000, 4000), (20, 3000), (900, 9), (1, 1)])
def test_photos_of_any_size(height, width):
  found = box_drawing.draw_boxes(photo(height, width), random_boxes(12, height, width), CLASSES)
  least, most = box_drawing.SIDES
  assert max(found.shape[:2]) == min(max(max(height, width), least), most) and found.dtype == np.uint8
  assert found.shape[0] / found.shape[1] == pytest.approx(height / width, rel=0.12) or min(height, width) < 20


def test_a_box_is_drawn_where_it_is_in_the_colour_of_its_class():
  palette = overlays.colours(CLASSES)
  drawn = DrawnBoxes(np.array([[100.0, 200, 300, 400]]), np.array([1]), np.array([0.5]))
  found = box_drawing.draw_boxes(np.zeros((640, 640, 3), np.uint8), drawn, CLASSES)
  coloured = np.argwhere((found == palette[1]).all(-1))
  frame = coloured[coloured[:, 0] > 202]
  assert frame.min(0).tolist() == [203, 100] and frame.max(0).tolist() == [400, 300]
  # the label is above it
  assert coloured[:, 0].min() < 195 and (found[250:390, 110:290] == 0).all()
  assert (
    box_drawing.draw_boxes(photo(640, 640), DrawnBoxes(drawn.boxes[:0], drawn.labels[:0]), CLASSES) == photo(640, 640)
  ).all()


def test_boxes_of_no_size_or_outside_are_drawn():
  boxes = np.array([[50.0, 50, 50, 50], [-100, -100, 9000, 9000], [639, 479, 640, 480], [700, 500, 800, 600]])
  drawn = DrawnBoxes(boxes, np.zeros(4, np.int64), np.array([0.9, 0.8, 0.7, 0.6]))
  assert box_drawing.draw_boxes(photo(480, 640), drawn, CLASSES).shape == (480, 640, 3)


def test_names_of_any_characters():
  text, font = box_labels.text_and_font("собака", 20)
  assert text == "собака" and font.getlength(text) > 40
  text, _ = box_labels.text_and_font("dog \U0010ffff\n\x1b[31m", 20)
  assert text == r"dog \U0010ffff \x1b[31m"
  text, font = box_labels.fitted("a name that is long", "0.93", 20, 120)
  assert text.endswith("… 0.93") and text.startswith("a n") and font.getlength(text) <= 120
  assert box_labels.fitted("name", "0.93", 20, 60)[0] == "0.93"
  assert box_labels.fitted("name", "0.93", 20, 3)[0] == ""
  assert box_labels.fitted("name", "", 20, 300)[0] == "name"


def test_characters_that_no_font_has_are_escaped(monkeypatch):
  box_labels._font_path.cache_clear()
  monkeypatch.setattr(box_labels, "_characters", lambda path: frozenset(map(ord, "dog 犬" if "Sans-Bold" in path else "dog ")))
  assert box_labels.text_and_font("dog 犬", 20)[0] == "dog 犬"
  assert box_labels.text_and_font("dog 狗", 20)[0] == r"dog \u72d7"
  box_labels._font_path.cache_clear()


def test_truth_beside_prediction(tmp_path):
  truth = box_drawing.from_shares(np.array([[0.1, 0.2, 0.5, 0.9], [0, 0, 0, 0]]), np.array([1, -1]), (480, 640))
  assert truth.boxes == pytest.approx(np.array([[128, 48, 576, 240]])) and truth.scores is None
  rows = [(photo(480, 640), truth, random_boxes(3, 480, 640)), (photo(64, 32), truth, random_boxes(0, 64, 32))]
  box_drawing.compared(rows, CLASSES, tmp_path / "a.png", "The first 2 test images")
  with Image.open(tmp_path / "a.png") as image:
    picture = np.asarray(image)
  assert picture.shape[1] == 2 * box_drawing.CELL + 3 * box_drawing.MARGIN and (picture[:, -1] == 255).all()
  assert box_drawing.grid([], "nothing").shape[2] == 3


def found(scores=(0.9, 0.5, 0.7, 0.0), count=3):
  boxes = np.array([[-0.1, 0.25, 0.5, 0.75], [0, 0, 1, 1.2], [0.1, 0.1, 0.2, 0.3], [0, 0, 0, 0]], np.float32)
  label = np.array([1, 0, 2, -1], np.int32)
  return {"boxes": boxes, "scores": np.array(scores, np.float32), "label": label, "count": np.int32(count)}


def test_a_prediction_is_in_pixels_of_the_photo():
  prediction = boxes_prediction("a/b.jpg", photo(200, 400), found(), CLASSES)
  assert prediction.to_dict() == {
    "image": "a/b.jpg",
    "detections": [
      {"class_id": 1, "name": "dog", "score": 0.9, "box": [100.0, 0.0, 300.0, 100.0]},
      {"class_id": 2, "name": "собака", "score": 0.7, "box": [40.0, 20.0, 120.0, 40.0]},
      {"class_id": 0, "name": "person", "score": 0.5, "box": [0.0, 0.0, 400.0, 200.0]},
    ],
  }
  assert prediction.lines()[:2] == ["a/b.jpg", "  0.90  dog     x 100 to 300, y 0 to 100"]
  assert repr(prediction) == "BoxesPrediction('a/b.jpg', 200x400, dog 0.90, собака 0.70, person 0.50)"
  assert len(boxes_prediction("a", photo(200, 400), found(), CLASSES).from_score(0.6).scores) == 2


def test_an_image_on_which_nothing_is_found(tmp_path):
  prediction = boxes_prediction("a.jpg", photo(200, 400), found(count=0), CLASSES)
  assert prediction.to_dict() == {"image": "a.jpg", "detections": []} and prediction.lines() == ["a.jpg", "  nothing found"]
  assert isinstance(prediction, BoxesPrediction) and repr(prediction) == "BoxesPrediction('a.jpg', 200x400)"
  prediction.draw(tmp_path / "a.png")
  with Image.open(tmp_path / "a.png") as picture:
    assert picture.size == (640, 320)
