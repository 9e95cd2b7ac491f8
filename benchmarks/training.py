"""Images per second of the pipeline alone, the model alone and both, by resolution; and memory.

python benchmarks/training.py [--resolutions 96,160,224] [--batch 32] [--config configs/imagenet.py:mobilenetv3_small]

The images are 500 x 375 crops of the portrait that matplotlib ships, as JPEG files in class folders. The three measurements are
made in turn, several rounds; medians are printed. On an accelerator, raise --batch.
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
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib import cbook
from PIL import Image

from mnv3_jax.commands.options import start_jax
from mnv3_jax.config_overrides import read_config
from mnv3_jax.data.pipelines.prefetch import prefetch
from mnv3_jax.models.initialize import initialize
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.optimizer import optimizer, schedule
from mnv3_jax.training.step import gradient_of, train_step

NUM_IMAGES = 512


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--resolutions", default="96,128,160,192,224")
  options.add_argument("--batch", type=int, default=32, help="images a step")
  options.add_argument("--config", default="configs/imagenet.py:mobilenetv3_small")
  options.add_argument("--rounds", type=int, default=5)
  options.add_argument("--seconds", type=float, default=3, help="of each measurement")
  options.add_argument("--dtype", default="float32")
  given = options.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    write_images(pathlib.Path(folder))
    start_jax()
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores, batch {given.batch}, {given.dtype}")
    print("| px | pipeline, images/s | model | both | host waits for data |\n|---|---|---|---|---|")
    for resolution in map(int, given.resolutions.split(",")):
      print(row(given, folder, resolution), flush=True)
  print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
  memory = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in memory:
    print(f"of the device: {memory['peak_bytes_in_use'] / 2**30:.2f} GiB")


def write_images(root: pathlib.Path) -> None:
  """Writes JPEG files in class folders."""
  with cbook.get_sample_data("grace_hopper.jpg") as file:
    portrait = Image.open(io.BytesIO(file.read())).convert("RGB")
  rng = np.random.default_rng(0)
  for i in range(NUM_IMAGES):
    side = rng.uniform(0.5, 1) * portrait.width
    left, top = rng.uniform(0, portrait.width - side), rng.uniform(0, portrait.height - 0.75 * side)
    crop = portrait.crop((round(left), round(top), round(left + side), round(top + 0.75 * side))).resize((500, 375))
    for split in ("train", "test"):
      folder = root / split / f"class_{i % 8}"
      folder.mkdir(parents=True, exist_ok=True)
      if split == "train" or i < 32:
        crop.save(folder / f"{i:04}.jpg", quality=92)


def overrides(given: argparse.Namespace, folder: str, resolution: int) -> list[str]:
  """Returns the overrides of the config."""
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


def row(given: argparse.Namespace, folder: str, resolution: int) -> str:
  """Measures one resolution and returns its row of the table."""
  config = read_config(given.config, overrides(given, folder, resolution))
  config.data.classes = jobs.class_names(config)
  job = jobs.from_config(config)
  devices = parallel.MODES[config.train.parallel]()
  rate = schedule(config.optim, batch_size=given.batch, steps_per_epoch=100, total_steps=1000)
  rule = optimizer(config.optim, rate)
  step = train_step(gradient_of(job.model, job.task), job.task, rule, ema=config.optim.ema, seed=0, axis=parallel.AXIS)
  update = devices.compile(step, outputs=2, donate=True)
  carried = {"state": devices.replicate(jax.device_get(states.create(initialize(job.model, 0), rule, True)))}

  def feed(batch: Mapping[str, Any]) -> Any:
    carried["state"], sums = update(carried["state"], devices.shard({k: v for k, v in batch.items() if k != "broken"}))
    return sums

  waiting_shares = []
  with prefetch(job.dataset.train_batches(0)) as batches:
    fixed = next(batches)
    jax.block_until_ready(feed(fixed))

    def both() -> float:
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
      waiting_shares.append(waiting / spent)
      return n * given.batch / spent

    measurements = {
      "pipeline": lambda: images_per_second(lambda: next(batches), given),
      "model": lambda: images_per_second(lambda: jax.block_until_ready(feed(fixed)), given),
      "both": both,
    }
    found = {name: [] for name in measurements}
    for _ in range(given.rounds):
      for name, measure in measurements.items():
        # batches prefetched during the other measurements cost nothing
        for _ in range(6 if name == "pipeline" else 0):
          next(batches)
        found[name].append(measure())
  pipeline, model, together = (statistics.median(rates) for rates in found.values())
  return f"| {resolution} | {pipeline:,.0f} | {model:,.0f} | {together:,.0f} | {statistics.median(waiting_shares):.0%} |"


def images_per_second(work: Callable[[], object], given: argparse.Namespace) -> float:
  """Calls a function that processes one batch for a while and returns images per second."""
  began = time.monotonic()
  n = next(i for i in itertools.count(1) if work() is not None and time.monotonic() - began > given.seconds)
  return n * given.batch / (time.monotonic() - began)


if __name__ == "__main__":
  main()
