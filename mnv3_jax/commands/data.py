"""mnv3 data: what a network will see, and how fast the pipeline is."""

import itertools
import pathlib
import time

import numpy as np

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.commands.options import Options, positive
from mnv3_jax.config import read_config
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.report import overlays, plots
from mnv3_jax.runs import progress

EXAMPLE = """mnv3 data --config configs/fashion_mnist.py --out photos.png
  mnv3 data oxford_flowers102 --config configs/imagenet.py --config.train.batch_size=64 --out flowers.png
  mnv3 data folder --config configs/imagenet.py --config.data.dir=photos --config.data.augment=crop_flip+erase
  mnv3 data --config configs/scenes_segmentation.py --out scenes.png"""

# training photos on the sheet, and epochs
PHOTOS, TIMES = 5, 7


def main(arguments):
  """Runs the verb; see mnv3 data --help."""
  what = "Draws a sheet of training photos as a network sees them in several epochs, and times the pipeline alone."
  options = Options("data", what, EXAMPLE)
  options.add_argument("dataset", nargs="?", metavar="DATASET", help="instead of config.data.dataset")
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file of configs/")
  options.add_argument("--out", default="photos.png", metavar="FILE", help="the sheet, a PNG (photos.png)")
  options.add_argument("--seconds", type=positive, default=10, metavar="N", help="how long the pipeline is timed (10)")
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field of the config")
  given, rest = options.parse_known_args(arguments)
  options.refuse([word for word in rest if not word.startswith("--config.")])
  if given.dataset:
    rest = [*rest, f"--config.data.dataset={given.dataset}"]
  config = read_config(given.config, rest)
  out = pathlib.Path(given.out)
  if out.suffix != ".png" or out.is_dir():
    raise UsageError(f"--out {given.out!r} is no name of a PNG file")

  from mnv3_jax.config import check
  from mnv3_jax.data import factory

  check(config)
  config.data.classes = factory.complete(config)
  architecture = fields.architecture(**config.model)
  dataset = factory.open_dataset(config, architecture.resolution, dense=architecture.segmenter is not None)
  size = sizes.pixels(architecture.resolution)
  print(f"{config.data.dataset}: {len(dataset.classes)} classes, {dataset.fingerprint}")
  print(f"{dataset.steps_per_epoch:,} steps of {config.train.batch_size} images in an epoch; {size}, {config.data.augment}")
  out.parent.mkdir(parents=True, exist_ok=True)
  untested = sheet(dataset, out, f"{config.data.dataset}, {size}, {config.data.augment}")
  print(f"{out}: training photos, each as {TIMES} epochs show it, and test photos")
  speed, first, broken = timed(dataset.train_batches(0), given.seconds)
  for sentence in dict.fromkeys([*untested, *broken]):
    print(f"left out: {sentence}")
  print(f"pipeline alone: {speed:,.0f} images/s over {progress.duration(given.seconds)}, first batch after {first:.2f} s")


def sheet(dataset, path, title):
  """Draws some training photos, each a row of what several epochs make of it, and a row of test photos.

  Returns:
    why test photos were left out.
  """
  rows = []
  n = dataset.order.n
  for i in range(0, n, max(n // PHOTOS, 1))[:PHOTOS]:
    try:
      shown = list(itertools.islice(dataset.only(i).train_batches(0), TIMES))
    except FatalError:
      # it is broken; timing names it
      continue
    label = shown[0]["label"][0]
    name = dataset.classes[label] if label.ndim == 0 else f"photo {i}"
    rows.append((name, [picture for batch in shown for picture in pictures(dataset, batch, [0])]))
  test = next(iter(dataset.eval_batches(TIMES)))
  rows.append(("test", pictures(dataset, test, np.flatnonzero(test["mask"] > 0))))
  plots.rows_of_photos(rows, path, title)
  return test.get("broken", [])


def pictures(dataset, batch, chosen):
  """Some photos of a batch as they are, (h, w, 3) uint8, or under their masks where every pixel has a class."""
  pixels = dataset.view.pixels(batch["image"][chosen])
  if batch["label"].ndim == 1:
    return list(pixels)
  palette = overlays.colours(dataset.classes)
  return [overlays.painted(p, mask, palette) for p, mask in zip(pixels, batch["label"][chosen], strict=True)]


def timed(batches, seconds):
  """(images per second, seconds until the first batch, what was left out) of a stream."""
  began = time.monotonic()
  broken = list(next(batches).get("broken", []))
  first = time.monotonic() - began
  # what was read ahead comes for nothing
  for batch in itertools.islice(batches, 3):
    broken += batch.get("broken", [])
  began, images = time.monotonic(), 0
  while time.monotonic() - began < seconds:
    batch = next(batches)
    images += len(batch["label"])
    broken += batch.get("broken", [])
  return images / (time.monotonic() - began), first, broken
