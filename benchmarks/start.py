"""Seconds from the command to its first step, imports included, with an empty and with a full cache of compiled functions.

python benchmarks/start.py [--rounds 5] [--out FILE.json]
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from speed import write

SHORT = ["--config.train.steps=2", "--config.train.log_every=1", "--config.evaluate.every=1000.0"]
FAKE = ["--config.data.fake=True", "--config.train.batch_size=16", "--config.model.bn_group=0"]
COMMANDS = {
  "the demo: V3-Small, 32 px": ["--config", "configs/fashion_mnist.py"],
  "V3-Small, 224 px, fake data": ["--config", "configs/imagenet.py:mobilenetv3_small", *FAKE],
  "V3-Large, 224 px, fake data": ["--config", "configs/imagenet.py:mobilenetv3_large", *FAKE],
}


def seconds(words: Sequence[str], cache: str) -> float:
  """Starts a training and returns the seconds to its first step."""
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "mnv3_jax", "train", "--workdir", f"{folder}/run", *words, *SHORT]
    began = time.monotonic()
    with subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": cache}, stdout=subprocess.PIPE, text=True) as process:
      first = next(time.monotonic() - began for line in process.stdout if line.startswith("step 1/"))
      process.stdout.read()
  return first


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown."""
  lines = ["| command to first step | cold, s | warm, s |", "|---|---|---|"]
  return "\n".join(lines + [f"| {r['case']} | {r['cold']} | {r['warm']} |" for r in results])


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--rounds", type=int, default=3, help="cold and warm starts of each command; medians are kept")
  options.add_argument("--out", type=pathlib.Path, help="JSON to write; other cases that it has stay")
  given = options.parse_args()
  results = []
  for name, words in COMMANDS.items():
    found = {"cold": [], "warm": []}
    for _ in range(given.rounds):
      with tempfile.TemporaryDirectory() as cache:
        for state, times in found.items():
          times.append(seconds(words, cache))
          print(f"{name}, {state}: {times[-1]:.1f} s", file=sys.stderr, flush=True)
    results.append({"case": name, **{state: round(statistics.median(times), 1) for state, times in found.items()}})
    if given.out:
      write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
