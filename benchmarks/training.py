"""Images per second of the pipeline alone, the model alone and both, by resolution; and memory.

python benchmarks/training.py [--resolutions 96,160,224] [--batch 32] [--config configs/imagenet.py:mobilenetv3_small]

The photos are 500 x 375 crops of the portrait that matplotlib ships, as JPEG files in class folders. The three kinds of
measurement take turns, several rounds; medians are printed. On an accelerator, raise --batch.
"""

import argparse
import io
import itertools
import os
import pathlib
import resource
import statistics
import tempfile
import time

import jax
import numpy as np
from matplotlib import cbook
from PIL import Image

from mnv3_jax.commands.options import start_jax
from mnv3_jax.config import read_config
from mnv3_jax.data import factory
from mnv3_jax.data.pipelines.prefetch import ahead
from mnv3_jax.models.initialize import initialize
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.optimizer import optimizer, schedule
from mnv3_jax.training.step import train_step

PHOTOS = 512


def main():
  """The command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--resolutions", default="96,128,160,192,224")
  options.add_argument("--batch", type=int, default=32, help="images a step")
  options.add_argument("--config", default="configs/imagenet.py:mobilenetv3_small")
  options.add_argument("--rounds", type=int, default=5)
  options.add_argument("--seconds", type=float, default=3, help="of each measurement")
  options.add_argument("--dtype", default="float32")
  given = options.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    photos(pathlib.Path(folder))
    start_jax()
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores, batch {given.batch}, {given.dtype}")
    print("| px | pipeline, images/s | model | both | host waits for data |\n|---|---|---|---|---|")
    for resolution in map(int, given.resolutions.split(",")):
      print(row(given, folder, resolution), flush=True)
  print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
  memory = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in memory:
    print(f"of the device: {memory['peak_bytes_in_use'] / 2**30:.2f} GiB")


def photos(root):
  """Writes the JPEG files."""
  with cbook.get_sample_data("grace_hopper.jpg") as file:
    portrait = Image.open(io.BytesIO(file.read())).convert("RGB")
  rng = np.random.default_rng(0)
  for i in range(PHOTOS):
    side = rng.uniform(0.5, 1) * portrait.width
    left, top = rng.uniform(0, portrait.width - side), rng.uniform(0, portrait.height - 0.75 * side)
    shown = portrait.crop((round(left), round(top), round(left + side), round(top + 0.75 * side))).resize((500, 375))
    for split in ("train", "test"):
      folder = root / split / f"class_{i % 8}"
      folder.mkdir(parents=True, exist_ok=True)
      if split == "train" or i < 32:
        shown.save(folder / f"{i:04}.jpg", quality=92)


def overrides(given, folder, resolution):
  """Fields of the config."""
  values = {
    "data.dataset": "folder",
    "data.dir": folder,
    "data.eval_split": "test",
    "model.resolution": resolution,
    "model.bn_group": 0,
    "model.dtype": given.dtype,
    "train.batch_size": given.batch,
    "evaluate.batch_size": 32,
  }
  return [f"--config.{name}={value}" for name, value in values.items()]


def row(given, folder, resolution):
  """A line of the table."""
  config = read_config(given.config, overrides(given, folder, resolution))
  config.data.classes = factory.complete(config)
  job = jobs.of(config)
  devices = parallel.MODES[config.train.parallel]()
  rate = schedule(config.optim, batch_size=given.batch, steps_per_epoch=100, total_steps=1000)
  rule = optimizer(config.optim, rate)
  step = train_step(job.model, job.task, rule, ema=config.optim.ema, seed=0, axis=parallel.AXIS)
  update = devices.compile(step, outputs=2, donate=True)
  carried = {"state": devices.replicate(jax.device_get(states.create(initialize(job.model, 0), rule, True)))}

  def feed(batch):
    carried["state"], sums = update(carried["state"], devices.shard({k: v for k, v in batch.items() if k != "broken"}))
    return sums

  waited = []
  with ahead(job.dataset.train_batches(0)) as batches:
    fixed = next(batches)
    jax.block_until_ready(feed(fixed))

    def both():
      began, waiting, n, pending = time.monotonic(), 0.0, 0, None
      while time.monotonic() - began < given.seconds:
        before = time.monotonic()
        batch = next(batches)
        waiting += time.monotonic() - before
        pending, last = feed(batch), pending
        jax.block_until_ready(last)
        n += 1
      jax.block_until_ready(pending)
      spent = time.monotonic() - began
      waited.append(waiting / spent)
      return n * given.batch / spent

    kinds = {
      "pipeline": lambda: timed(lambda: next(batches), given),
      "model": lambda: timed(lambda: jax.block_until_ready(feed(fixed)), given),
      "both": both,
    }
    figures = {kind: [] for kind in kinds}
    for _ in range(given.rounds):
      for kind, measure in kinds.items():
        # what was read ahead while the other kinds were measured comes for nothing
        for _ in range(6 if kind == "pipeline" else 0):
          next(batches)
        figures[kind].append(measure())
  pipeline, model, together = (statistics.median(figures[kind]) for kind in kinds)
  return f"| {resolution} | {pipeline:,.0f} | {model:,.0f} | {together:,.0f} | {statistics.median(waited):.0%} |"


def timed(work, given):
  """Images per second of something that takes a batch."""
  began = time.monotonic()
  n = next(i for i in itertools.count(1) if work() is not None and time.monotonic() - began > given.seconds)
  return n * given.batch / (time.monotonic() - began)


if __name__ == "__main__":
  main()
