"""Fuzz target: class lists, lists of images, masks, names of splits, classes and folders."""

import collections
import io
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback

import numpy as np
from peak_memory import peak_megabytes
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.config_overrides import read_config
from mnv3_jax.data import image_datasets
from mnv3_jax.data.sources import label_maps, voc
from mnv3_jax.data.sources.splits import parse_split
from mnv3_jax.errors import UsageError
from mnv3_jax.training import imported

WORDS = (
  "cat",
  "dog",
  "été",
  "a b",
  "a/b",
  "é",
  "CAT",
  "__MACOSX",
  ".hidden",
  "train",
  "val",
  "test",
  "all",
  "..",
  "",
  "x" * 300,
)
MARKS = ("[", "]", ":", "%", ",", "'", '"', "(", ")", "\\", "\n", "\r", "\0", "\t", " ", "-", "0", "9" * 30, "\ufeff", "\udce9")
MAX_MEGABYTES = 3000


def text(rng):
  return "".join(rng.choice((*WORDS, *MARKS)) for _ in range(rng.randint(0, 6)))


def mutated(rng, content):
  """Changes, removes or repeats a few bytes."""
  content = bytearray(content)
  for _ in range(rng.choice((1, 1, 2, 5))):
    at = rng.randrange(len(content) + 1)
    kind = rng.random()
    if kind < 0.5 and at < len(content):
      content[at] = rng.randrange(256)
    elif kind < 0.7:
      del content[at : at + rng.randint(1, 20)]
    elif kind < 0.9:
      content[at:at] = content[at : at + rng.randint(1, 200)]
    else:
      content = content[:at]
  return bytes(content)


def masks():
  """PNG files of masks: grey, palette, RGB, 16 bit, 1 bit."""
  ids = (np.arange(35 * 21).reshape(35, 21) % 3).astype(np.uint8)
  palette = Image.fromarray(ids).convert("P")
  kinds = (Image.fromarray(ids), palette, palette.convert("RGB"), Image.fromarray(ids.astype(np.uint16)), palette.convert("1"))
  for image in kinds:
    out = io.BytesIO()
    image.save(out, "PNG")
    yield out.getvalue()


def class_list(rng, root):
  content = "\n".join(text(rng) for _ in range(rng.randint(0, 9))).encode(errors="surrogateescape")
  (root / "names.txt").write_bytes(mutated(rng, content))
  imported._class_names(root / "names.txt")


def image_list(rng, root):
  for name in (voc.IMAGES, voc.MASKS, voc.LISTS):
    (root / "voc" / name).mkdir(parents=True, exist_ok=True)
  content = "\n".join(text(rng) for _ in range(rng.randint(0, 9))).encode(errors="surrogateescape")
  (root / "voc" / voc.LISTS / "train.txt").write_bytes(mutated(rng, content))
  voc.open_split(root / "voc", rng.choice(("train", "training", "val", text(rng))))


def mask(rng, root):
  label_map = rng.choice((label_maps.label_ids(), label_maps.train_ids(3), label_maps.indices(3)))
  found = label_map.read(mutated(rng, rng.choice(MASKS)), "a.png")
  assert found.dtype == np.uint8 and found.ndim == 2


def override(rng, root):
  value = text(rng)
  field = rng.choice(("classes", "mean", "std", "train_split", "dir"))
  read_config("fashion_mnist", [f"--config.data.{field}={value}"])


def split(rng, root):
  _, part = parse_split(text(rng))
  assert part is None or isinstance(part(10), slice)


def folders(rng, root):
  root = root / "folders"
  shutil.rmtree(root, ignore_errors=True)
  for _ in range(rng.randint(0, 8)):
    path = (
      root
      / rng.choice(("train", "val", *WORDS[:-3]))
      / rng.choice(("cat", "dog", *WORDS[:-3]))
      / f"{rng.randrange(3)}{rng.choice(('.jpg', '.TIF', '.txt', ''))}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
      path.write_bytes(b"x")
  config = base()
  config.data.update(
    {
      "dataset": "folder",
      "dir": str(root),
      "augment": "none",
      "train_split": rng.choice((text(rng), "train", "train[:9]", "all")),
    }
  )
  config.data.update(
    {"eval_split": rng.choice((text(rng), "val", "train", "all")), "classes": rng.choice(((), (), WORDS[:2], (text(rng),)))}
  )
  config.data.classes = image_datasets.class_names(config)
  dataset = image_datasets.open_dataset(config, 32)
  dataset.warnings(training=True)
  assert dataset.facts(0, training=True).error


MASKS = tuple(masks())
ENTRANCES = (class_list, image_list, mask, override, split, folders)


def main(seed, seconds):
  rng, ends, began = random.Random(seed), collections.Counter(), time.monotonic()
  with tempfile.TemporaryDirectory() as root:
    for n in range(10**9):
      if time.monotonic() - began > seconds:
        break
      entrance = ENTRANCES[n % len(ENTRANCES)]
      before = rng.getstate()
      try:
        entrance(rng, pathlib.Path(root))
        ends[entrance.__name__, "good"] += 1
      except UsageError as error:
        assert len(str(error)) > 5, (seed, n)
        ends[entrance.__name__, "usage error"] += 1
      except BaseException:
        print(f"seed {seed}, input {n} of {entrance.__name__}, state {hash(before)}")
        traceback.print_exc()
        sys.exit(1)
  megabytes = peak_megabytes()
  assert megabytes < MAX_MEGABYTES, (seed, megabytes)
  print(dict(ends), f"{megabytes:.0f} MB")


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]))
