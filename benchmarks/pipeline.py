"""Images per second of the input pipeline beside a plain tf.data one and PyTorch's DataLoader with Pillow, on the same JPEGs.

python benchmarks/pipeline.py [--cores 1,2] [--augment crop_flip] [--torch-python PYTHON] [--out FILE.json]

500 x 375 JPEGs in class folders to float batches of 224 px; nothing else runs. Each contestant is a process of its own, bound
to the given number of cores; they are measured in turn. Medians, and the median of the ratios round by round.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from speed import Contestant, end, take_turns, write
from training import write_images

CONTESTANTS = {"ours": "images_ours.py", "tf.data": "images_tf_data.py", "DataLoader, PIL": "images_pil.py"}
# maximum number of batches that a contestant prefetches
AHEAD = 10


def compare(case: Mapping[str, Any], python_of: Mapping[str, str], rounds: int) -> dict[str, dict[str, Any]]:
  """Runs the contestants on one case and returns their metrics by name."""
  running = []
  try:
    for name, python in python_of.items():
      running.append(Contestant(name, CONTESTANTS[name], case, python, AHEAD))
    take_turns(running, rounds)
  finally:
    end(running)
  return {c.name: c.metrics(case["batch"], running[0]) for c in running}


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown."""
  lines = ["| augmentation | cores | | images/s | × ours | first batch, s |", "|---|---|---|---|---|---|"]
  for r in results:
    for name, f in r["figures"].items():
      # ratio of images per second, not of times
      share = f"{1 / f['times_ours']:.2f}"
      cells = [r["case"]["augment"], len(r["case"]["cores"]), name, f"{f['images_per_second']:,.0f}", share, f["first_batch_s"]]
      lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--cores", default=",".join(map(str, range(1, min(os.cpu_count(), 2) + 1))), help="separated by commas")
  options.add_argument("--augment", default="crop_flip,inception")
  options.add_argument("--batch", type=int, default=64)
  options.add_argument("--resolution", type=int, default=224)
  options.add_argument("--rounds", type=int, default=7)
  options.add_argument("--torch-python", default=sys.executable, help="a Python that has torch and torchvision")
  options.add_argument("--out", type=pathlib.Path, help="JSON to write; other cases that it has stay")
  given = options.parse_args()
  python_of = {"ours": sys.executable, "tf.data": sys.executable}
  if subprocess.run([given.torch_python, "-c", "import torch"], capture_output=True).returncode:
    print(f"DataLoader, PIL is skipped: {given.torch_python} has no torch (give another with --torch-python)")
  else:
    python_of["DataLoader, PIL"] = given.torch_python
  results, available = [], sorted(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder:
    write_images(pathlib.Path(folder))
    for augment in given.augment.split(","):
      for cores in map(int, given.cores.split(",")):
        case = {"folder": folder, "augment": augment, "batch": given.batch, "resolution": given.resolution}
        case["cores"] = available[:cores]
        metrics = compare(case, python_of, given.rounds)
        del case["folder"]
        results.append({"case": case, "figures": metrics})
        if given.out:
          write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
