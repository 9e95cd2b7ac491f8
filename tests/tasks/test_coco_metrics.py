"""COCO's numbers: those of pycocotools, whatever the order, the batches and the devices."""

import collections
import json

import coco_sets
import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.tasks import coco_metrics, coco_results
from mnv3_jax.tasks.coco_metrics import DetectionAccumulator

KEYS = [name for name, *_ in coco_metrics.SUMMARY]
CLASSES = ("apple", "bear", "cat", "dog")


def written(folder, content, results):
  (folder / "truth.json").write_text(json.dumps(content))
  coco_results.write_results(folder / "results.json", results)
  return folder / "truth.json", folder / "results.json"


@pytest.mark.parametrize("seed", range(8))
def test_the_numbers_are_those_of_pycocotools(seed, tmp_path):
  content, results = coco_sets.coco_set(seed)
  assert max(collections.Counter((r["image_id"], r["category_id"]) for r in results).values()) > 100
  stats, by_class = coco_sets.judged(content, results)
  metrics = coco_results.evaluate_results(*written(tmp_path, content, results))
  for name, value in zip(KEYS, stats, strict=True):
    assert metrics.get(name, -1) == pytest.approx(value, rel=0, abs=1e-12), name
  names = {c["id"]: f"ap/{c['name']}" for c in content["categories"]}
  for i, value in by_class.items():
    assert metrics.get(names[i], -1) == pytest.approx(value, rel=0, abs=1e-12)
  # a class without an object is in no mean, and has no number
  assert sorted(by_class.values())[0] == -1 and len([k for k in metrics if k.startswith("ap/")]) < len(names)
  assert metrics["count"] == len(content["images"]) and -1 not in metrics.values()


def batch(seed, images=24, most=8, found=12):
  """Detections and truth of a batch as a device gives them."""
  rng = np.random.default_rng(seed)

  def boxes(n):
    corners = rng.random((images, n, 2)).astype(np.float32) * 0.6
    return np.concatenate([corners, corners + rng.random((images, n, 2)).astype(np.float32) * 0.4], -1)

  truth, label = boxes(most), rng.integers(-1, len(CLASSES) - 1, (images, most))
  label[0] = -1
  near = truth[np.arange(images)[:, None], rng.integers(0, most, (images, found))]
  near += (rng.normal(0, 0.02, near.shape) * (rng.random((images, found, 1)) < 0.8)).astype(np.float32)
  size = rng.integers(100, 900, (images, 2)).astype(np.float32)
  sides = (truth[..., 2:] - truth[..., :2]) * size[:, None]
  return {
    "number": rng.permutation(images).astype(np.int32),
    "mask": (np.arange(images) != 5).astype(np.float32),
    "size": size,
    "boxes": np.maximum(near, 0),
    "scores": np.sort(rng.integers(1, 20, (images, found)) / np.float32(20), 1)[:, ::-1].astype(np.float32),
    "label": rng.integers(0, len(CLASSES), (images, found)).astype(np.int32),
    "count": rng.integers(0, found + 1, images).astype(np.int32),
    "truth_boxes": truth,
    "truth_label": label.astype(np.int32),
    "crowd": rng.random((images, most)) < 0.1,
    "area": sides.prod(-1).astype(np.float32),
    "loss": np.exp(rng.uniform(-30, 30, images)).astype(np.float32),
    "positives": rng.integers(0, 9, images).astype(np.float32),
  }


def result(parts):
  accumulator = DetectionAccumulator(CLASSES)
  for part in parts:
    accumulator.add(part)
  return accumulator.result()


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 7), st.integers(0, 3))
def test_the_result_is_bitwise_the_same_for_any_batches_and_order(random, parts, padding):
  whole = batch(0)
  expected = result([whole])
  order = list(range(24))
  random.shuffle(order)
  pieces = []
  for part in np.array_split(order, parts):
    piece = {name: values[part] for name, values in whole.items()}
    # padding rows, of which the arrays may hold anything
    pieces.append({name: np.concatenate([v, v[:1].repeat(padding, 0)]) for name, v in piece.items()})
    pieces[-1]["mask"][len(part) :] = 0
  assert result(pieces) == expected


def test_it_takes_what_devices_gather():
  """The sum over devices of an all_gather is what one device has."""
  whole = batch(1)
  shards = {name: values.reshape(2, 12, *values.shape[1:]) for name, values in whole.items()}
  gather = jax.vmap(lambda tree: jax.lax.all_gather(tree, "d", tiled=True), axis_name="d")
  gathered = jax.tree.map(lambda x: np.asarray(x[0]), gather(shards))
  assert result([gathered]) == result([whole])


def test_pixels_are_shares_of_the_photo():
  """The numbers of an accumulator are those of pycocotools for the same boxes in pixels."""
  whole = batch(2)
  images, annotations, results = [], [], []
  for i in np.flatnonzero(whole["mask"]):
    number, (height, width) = int(whole["number"][i]), whole["size"][i].astype(float)
    images.append({"id": number, "width": int(width), "height": int(height)})

    def box(share, height=height, width=width):
      ymin, xmin, ymax, xmax = map(float, share)
      return [xmin * width, ymin * height, (xmax - xmin) * width, (ymax - ymin) * height]

    for j in np.flatnonzero(whole["truth_label"][i] >= 0):
      a = {"image_id": number, "category_id": int(whole["truth_label"][i, j]), "bbox": box(whole["truth_boxes"][i, j])}
      annotations.append({**a, "iscrowd": int(whole["crowd"][i, j]), "area": float(whole["area"][i, j])})
    for j in range(whole["count"][i]):
      found = {"image_id": number, "category_id": int(whole["label"][i, j]), "bbox": box(whole["boxes"][i, j])}
      results.append({**found, "score": float(whole["scores"][i, j])})
  categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
  content = {"images": images, "categories": categories, "annotations": annotations}
  stats, _ = coco_sets.judged(content, sorted(results, key=lambda r: r["image_id"]))
  metrics = result([whole])
  assert [metrics.get(name, -1) for name in KEYS] == pytest.approx(list(stats), rel=0, abs=1e-12)
  assert 0 < metrics["ap"] < 1 and metrics["count"] == 23
  losses = whole["loss"][whole["mask"] > 0].astype(float), whole["positives"][whole["mask"] > 0]
  assert metrics["loss"] == pytest.approx(losses[0].sum() / losses[1].sum(), rel=1e-12)


def as_detections(tree, scores=1.0):
  """The truth as detections."""
  real = tree["truth_label"] >= 0
  order = np.argsort(~real, 1, kind="stable")
  take = np.take_along_axis
  return tree | {
    "boxes": take(tree["truth_boxes"], order[..., None], 1),
    "label": take(tree["truth_label"], order, 1),
    "scores": np.full(real.shape, scores, np.float32),
    "count": real.sum(1).astype(np.int32),
    "crowd": np.zeros(real.shape, bool),
  }


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 1))
def test_detections_equal_to_the_truth_give_exactly_one(seed, score):
  metrics = result([as_detections(batch(seed), np.float32(score))])
  assert all(metrics[name] == 1.0 for name in metrics if name.startswith("ap")), metrics
  assert metrics["ar100"] == 1.0


@pytest.mark.parametrize("ids", [[7, 3, 90], [0, 1, 2], [1, 2, 3]], ids=str)
def test_the_truth_is_right_whatever_the_ids_are(ids, tmp_path):
  images = [{"id": i} for i in (5, 0, 17)]
  categories = [{"id": i, "name": f"c{i}"} for i in ids]
  boxes = [{"image_id": i, "category_id": c, "bbox": [1.0, 2.0, 30.0, 40.0 + c]} for i in (17, 5) for c in ids]
  truth = {"images": images, "categories": categories, "annotations": [{**b, "id": n} for n, b in enumerate(boxes)]}
  metrics = coco_results.evaluate_results(*written(tmp_path, truth, [{**b, "score": 0.5} for b in boxes]))
  assert metrics["ap"] == metrics["ap50"] == metrics["ar100"] == metrics["ap/c" + str(ids[0])] == 1.0
  assert metrics["count"] == 3


def test_a_class_without_truth_is_left_out_and_said_so():
  tree = as_detections(batch(3))
  metrics = result([tree])
  assert "ap/dog" not in metrics and metrics["ap"] == 1.0
  text = coco_metrics.lines(metrics, CLASSES)
  assert text[0].startswith("AP 1.0000  AP50 1.0000  AP75 1.0000  loss ")
  assert text[-1] == "  1 of 4 classes has no test object and is in no mean: dog" and "-1" not in "\n".join(text)
  # sizes of which there is no object
  tree["area"][:] = 100
  metrics = result([tree])
  assert "ap_large" not in metrics and "large -" in coco_metrics.lines(metrics, CLASSES)[1]


def test_no_truth_or_no_detection():
  tree = batch(4)
  tree["count"][:] = 0
  metrics = result([tree])
  assert metrics["ap"] == metrics["ar100"] == 0.0
  tree["truth_label"][:] = -1
  with pytest.raises(FatalError, match=r"^none of 23 test images has a box; average precision needs at least one$"):
    result([tree])


def test_an_example_that_comes_twice_is_a_fault():
  with pytest.raises(ValueError, match="was added twice"):
    result([batch(0), batch(0)])


def test_results_are_written_as_coco_has_them(tmp_path):
  found = [{"class_id": 1, "name": "b", "score": 0.25, "box": [1.5, 2.0, 11.25, 22.0]}]
  entries = coco_results.result_entries(found, 139, category_ids=[1, 90])
  assert entries == [{"image_id": 139, "category_id": 90, "bbox": [1.5, 2.0, 9.75, 20.0], "score": 0.25}]
  coco_results.write_results(tmp_path / "r.json", entries)
  assert json.loads((tmp_path / "r.json").read_text()) == entries
  coco_results.write_results(tmp_path / "r.json", [])
  assert coco_results.read_results(tmp_path / "r.json").boxes.shape == (0, 4)
  assert coco_results.image_ids(["a/000000000139.jpg", "b/7.png"]) == {"a/000000000139.jpg": 139, "b/7.png": 7}
  assert coco_results.image_ids(["7.jpg", "cat.jpg"]) == {"7.jpg": 1, "cat.jpg": 2}
  assert coco_results.image_ids(["a/cat.jpg", "b/cat.jpg", "7.jpg"]) == {"a/cat.jpg": 1, "b/cat.jpg": 2, "7.jpg": 3}


@pytest.mark.parametrize(
  ("one", "two"), [("a/139.jpg", "b/139.jpg"), ("139.jpg", "000000000139.png"), ("139.jpg", "139.jpg (2)")]
)
def test_two_images_of_one_number_are_refused(one, two):
  with pytest.raises(UsageError) as error:
    coco_results.image_ids(["8.jpg", one, two])
  assert str(error.value).startswith(f"{one!r} and {two!r} would both be image 139 in COCO's results; rename one of them, or")


GOOD = {"image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 1}


@pytest.mark.parametrize(
  "bad, message",
  [
    ("{}", "is no COCO results: expected a list"),
    ("[", "is no JSON"),
    ([GOOD, {**GOOD, "bbox": [0, 0, 5]}], r"detection 1 has the bbox \[0, 0, 5\]; expected \[xmin, ymin, width, height\]"),
    ([{**GOOD, "bbox": [0, 0, -5, 5]}], "expected a width and a height of at least 0"),
    ([{**GOOD, "bbox": [0, 0, float("nan"), 5]}], "bbox of .*detection 0 is nan; expected a number"),
    ([{**GOOD, "score": None}], "the score of .*detection 0 is None; expected a number"),
    ([{**GOOD, "image_id": 1.5}], "detection 0 has the image_id 1.5; expected a whole number"),
    ([{**GOOD, "category_id": "cat"}], "has the category_id 'cat'"),
    ([5], "detection 0 has the bbox None"),
    ([{**GOOD, "image_id": 9}], "has image_id 9, which .*truth.json' has not"),
    ([{**GOOD, "category_id": 9}], "has category_id 9, which .*truth.json' has not"),
  ],
)
def test_wrong_results_are_one_sentence(bad, message, tmp_path):
  truth = {"images": [{"id": 1}], "categories": [{"id": 2, "name": "x"}], "annotations": [{"id": 0, **GOOD}]}
  files = written(tmp_path, truth, [])
  files[1].write_text(bad if isinstance(bad, str) else json.dumps(bad))
  with pytest.raises(UsageError, match=message):
    coco_results.evaluate_results(*files)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"images": None}, "is no COCO annotations"),
    ({"annotations": [{"id": 4, **GOOD, "bbox": None}]}, "annotation 4 has the bbox None"),
    ({"annotations": [{**GOOD, "image_id": 3}]}, "annotation at position 0 is of image_id 3, which is not among the images"),
    ({"annotations": [{**GOOD, "category_id": 3}]}, "is of category_id 3, which is not among the categories"),
    ({"annotations": [{**GOOD, "area": "big"}]}, "the area of .* is 'big'; expected a number"),
    ({"categories": [{"name": "x"}]}, "category 0 has the id None"),
  ],
)
def test_wrong_annotations_are_one_sentence(change, message, tmp_path):
  truth = {"images": [{"id": 1}], "categories": [{"id": 2, "name": "x"}], "annotations": [GOOD], **change}
  with pytest.raises(UsageError, match=message):
    coco_results.evaluate_results(*written(tmp_path, truth, []))
