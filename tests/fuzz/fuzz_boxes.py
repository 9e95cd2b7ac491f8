"""Fuzz target: files of annotations with boxes, COCO's JSON and Pascal VOC's XML, and their images."""

import collections
import json
import pathlib
import random
import sys
import tempfile
import time
import traceback
import warnings

import numpy as np
from fuzzing import mutated_bytes

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "data"))
import boxed

from mnv3_jax.data.pipelines.image_box_files import ImageBoxFiles
from mnv3_jax.data.sources import coco, json_stream, voc_boxes
from mnv3_jax.errors import FatalError, UsageError

# values that take the place of others in the JSON
VALUES = (
  *(
    None,
    True,
    -1,
    0,
    1,
    3.5,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    2**63,
    10**400,
    "",
    "x",
    "000001.jpg",
    "../x",
    "\ud800",
  ),
  *([], [1, 2, 3, 4], [0, 0, 0, 0], [1e308] * 4, [float("nan")] * 4, {}, {"id": 1}, "a" * 1000, "\0", "7", [[]]),
)


def changed(rng, value, depth=0):
  """Returns a JSON value with a part of it replaced, removed, repeated, or of another type."""
  if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1 * depth:
    return rng.choice(VALUES)
  value = dict(value) if isinstance(value, dict) else list(value)
  key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
  kind = rng.random()
  if kind < 0.1:
    del value[key]
  elif kind < 0.15 and isinstance(value, list):
    value.insert(key, value[key])
  else:
    value[key] = changed(rng, value[key], depth + 1)
  return value


def check(open_split):
  """Opens a split and reads all of it; only usage errors and the end of a training come out."""
  source = open_split()
  assert len(source) == len(source.counts()) and source.fingerprint
  assert all(isinstance(sentence, str) for sentence in source.warnings)
  dataset = ImageBoxFiles(("a",), lambda: source, lambda: source, (16, 16), "legacy", 3, augment="iou_crop+flip", batch_size=1)
  for batch in dataset.eval_batches(4):
    assert (batch["label"] >= -1).all() and (np.abs(batch["boxes"]) <= 2).all() and np.isfinite(batch["area"]).all()
  try:
    batch = next(dataset.train_batches(0))
  except FatalError:
    return
  assert (batch["boxes"] >= 0).all() and (batch["boxes"] <= 1).all() and (batch["label"] < 3).all()


def of_coco(rng, root):
  content = boxed.coco_content(range(4))
  for _ in range(rng.choice((1, 1, 2, 4))):
    content = changed(rng, content)
  text = json.dumps(content).encode(errors="surrogatepass")
  (root / "coco/annotations/instances_train2017.json").write_bytes(mutated_bytes(rng, text) if rng.random() < 0.3 else text)
  check(lambda: coco.open_split(root / "coco", "train"))


def of_stream(rng, root):
  path = root / "stream.json"
  path.write_bytes(mutated_bytes(rng, json.dumps(boxed.coco_content(range(2))).encode()))
  items = []
  json_stream.CHUNK = rng.choice((1, 3, 50, 2**22))
  try:
    json_stream.read_lists(path, {"images": items.append, "annotations": items.append})
    # what is read item by item is what is read at once
    whole = json.loads(path.read_bytes())
    assert sorted(map(repr, items)) == sorted(map(repr, [*whole.get("images", []), *whole.get("annotations", [])]))
  finally:
    json_stream.CHUNK = 2**22


def of_voc(rng, root):
  xml = boxed.voc_xml(rng.randrange(4))
  if rng.random() < 0.4:
    numbers = ("", "x", "nan", "inf", "-inf", "1e400", "1e308", "-1e308", "-5", "1e9", "0", "&x;", "<a/>", "9" * 400)
    for _ in range(rng.choice((1, 2))):
      start = rng.choice([i for i, c in enumerate(xml) if c == ">"][:-1]) + 1
      xml = xml[:start] + rng.choice(numbers) + xml[xml.index("<", start) :]
  content = xml.encode()
  (root / "voc/Annotations/000000.xml").write_bytes(mutated_bytes(rng, content) if rng.random() < 0.7 else content)
  check(lambda: voc_boxes.open_split(root / "voc", "train", boxed.CLASSES))


ENTRANCES = (of_coco, of_stream, of_voc)


def main(seed, seconds):
  warnings.simplefilter("error")
  rng, ends, began = random.Random(seed), collections.Counter(), time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    boxed.coco(root / "coco", {"train": range(4)})
    boxed.voc(root / "voc", {"train": range(4)})
    for n in range(10**9):
      if time.monotonic() - began > seconds:
        break
      entrance = ENTRANCES[n % len(ENTRANCES)]
      try:
        entrance(rng, root)
        ends[entrance.__name__, "good"] += 1
      except UsageError as error:
        assert len(str(error)) > 5, (seed, n)
        ends[entrance.__name__, "usage error"] += 1
      except BaseException:
        print(f"seed {seed}, input {n} of {entrance.__name__}")
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)
  print(dict(ends))


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]))
