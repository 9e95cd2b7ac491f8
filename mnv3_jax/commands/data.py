"""mnv3 data: inspects a data set, draws a contact sheet of it, and times its input pipeline."""

import pathlib

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.commands.options import Options, positive, print_json
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.runs import progress

EXAMPLE = """mnv3 data --config configs/fashion_mnist.py --out examples.png
  mnv3 data oxford_flowers102 --config configs/imagenet.py --config.train.batch_size=64 --out flowers.png
  mnv3 data folder --config configs/imagenet.py --config.data.dir=photos --config.data.augment=crop_flip+erase
  mnv3 data --config configs/scenes_segmentation.py --out scenes.png"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 data --help."""
  summary = (
    "Reads the examples of a data set and says what is in it and what is wrong with it: counts, sizes, duplicates, unreadable "
    "files. Then draws training images as several epochs augment them, and times the input pipeline alone."
  )
  options = Options("data", summary, EXAMPLE)
  options.add_argument("dataset", nargs="?", metavar="DATASET", help="instead of config.data.dataset")
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file or a name of configs/")
  options.add_argument("--out", default="photos.png", metavar="FILE", help="the contact sheet, a PNG (photos.png)")
  options.add_argument("--seconds", type=positive, default=10, metavar="N", help="how long the pipeline is timed (10)")
  options.add_argument(
    "--limit", type=positive, default=10_000, metavar="N", help="examples of each split that are read, evenly spaced (10,000)"
  )
  options.add_argument("--json", action="store_true", help="print JSON")
  given, overrides = options.parse_with_config(arguments)
  if given.dataset:
    overrides = [*overrides, f"--config.data.dataset={given.dataset}"]
  config = read_config(given.config, overrides)
  out = pathlib.Path(given.out)
  if out.suffix != ".png" or out.is_dir():
    raise UsageError(f"invalid --out={given.out!r}; expected the name of a PNG file")

  from mnv3_jax.data.pipelines.throughput import measure_throughput
  from mnv3_jax.report.contact_sheet import EPOCHS, draw_contact_sheet
  from mnv3_jax.tasks import job as jobs
  from mnv3_jax.training.inspection import inspect_dataset
  from mnv3_jax.training.run import with_classes

  # a data set may be unfit for training, and the report about it what is needed
  with options.naming_flags(), progress.Counter("examples") as count:
    report = inspect_dataset(config, limit=given.limit, on_progress=count)
  if not given.json:
    print(f"{config.data.dataset}, examples by split\n\n{report}\n")
  with options.naming_flags():
    job = jobs.from_config(with_classes(config))
  dataset, task, classes = job.dataset, job.task, job.dataset.classes
  size = sizes.pixels(fields.architecture(**config.model).resolution)
  steps = dataset.steps_per_epoch
  out.parent.mkdir(parents=True, exist_ok=True)
  skipped = draw_contact_sheet(
    dataset,
    out,
    f"{config.data.dataset}, {size}, {config.data.augment}",
    pictures=lambda pixels, batch: task.pictures(pixels, batch, classes),
    caption=lambda batch: task.caption(batch, 0, classes),
  )
  found = measure_throughput(dataset.train_batches(0), given.seconds)
  speed, first = found.images_per_second, found.first_batch_seconds
  if given.json:
    pipeline = {
      "images_per_second": speed,
      "images_per_core": found.images_per_core,
      "first_batch_seconds": first,
      "steps_per_epoch": steps,
    }
    print_json({**report.to_dict(), "contact_sheet": str(out), "pipeline": pipeline})
    return
  print(f"{config.data.dataset}: {counted(len(dataset.classes), 'class', 'classes')}, {dataset.fingerprint}")
  print(f"{steps:,} steps of {config.train.batch_size} images per epoch; {size}, {config.data.augment}")
  print(f"{out}: training images, each in the augmentations of {EPOCHS} epochs, and test images")
  for message in dict.fromkeys([*skipped, *found.skipped]):
    print(f"skipped: {message}")
  rate = f"{speed:,.0f} images/s, {found.images_per_core:,.0f} for each second of a processor core"
  print(f"pipeline alone: {rate}, over {progress.duration(given.seconds)}; first batch after {first:.2f} s")
