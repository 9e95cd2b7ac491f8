"""Fine-tuning against training from scratch, on the embedded photos; and the docs' table of it.

python experiments/fine_tuning.py FOLDER     runs everything in FOLDER (about five minutes on two cores; again: what is missing)
                                             and keeps the figures in experiments/results/fine_tuning.json
python experiments/fine_tuning.py            writes the table anew from these

MobileNetV3-Small is trained on five classes for 12 epochs; each row then on the five others, for 3 epochs with 3 seeds.
"""

import json
import pathlib
import statistics
import subprocess
import sys
from typing import Any

import section

from mnv3_jax.sweeps.trial import command_line

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "fine_tuning.json"
BEGIN, END = "<!-- from experiments/fine_tuning.py -->\n", "<!-- end of fine_tuning -->\n"

FIRST = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
OTHERS = ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EPOCHS, SEEDS = 3, (0, 1, 2)

# options of each row; FOLDER/first is the network trained on the first classes
ROWS = {
  "from scratch": (),
  "--init": ("--init", "first"),
  "--init, stem and two blocks frozen": ("--init", "first", "--config.optim.lr_groups=stem=0,block_0[12]=0"),
}


def train(
  folder: pathlib.Path, name: str, classes: tuple[str, ...], epochs: float, seed: int, words: tuple[str, ...] = ()
) -> dict[str, Any]:
  """Runs one training by the command line and returns its result."""
  command = [
    "mnv3",
    "train",
    "--config",
    str(ROOT / "configs" / "fashion_mnist.py"),
    "--workdir",
    name,
  ]
  fields = {"data.classes": classes, "train.epochs": epochs, "train.seed": seed, "evaluate.every": float(epochs)}
  command += [f"--config.{field}={value}" for field, value in fields.items()]
  subprocess.run(command_line([*command, *words]), cwd=folder, check=True)
  return json.loads((folder / name / "result.json").read_text())


def run(folder: pathlib.Path) -> dict[str, dict[str, list[float]]]:
  """Runs all rows and seeds and returns {row: {"raw": [top-1 by seed], "ema": [...]}}."""
  folder.mkdir(parents=True, exist_ok=True)
  train(folder, "first", FIRST, 12, 0)
  found = {}
  for i, (row, words) in enumerate(ROWS.items()):
    tests = [train(folder, f"row{i}_seed{seed}", OTHERS, EPOCHS, seed, words)["metrics"]["test"] for seed in SEEDS]
    found[row] = {kind: [t[kind]["top1"] for t in tests] for kind in ("raw", "ema")}
  return found


def table() -> str:
  """Formats the kept results as a Markdown table."""
  found = json.loads(KEPT.read_text())
  lines = [f"| {EPOCHS} epochs on five classes | top-1, averaged weights | top-1, raw weights |", "|---|---|---|"]
  for row in ROWS:
    cells = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in (found[row]["ema"], found[row]["raw"])]
    lines.append(f"| {row} | {cells[0]} | {cells[1]} |")
  return "\n".join([*lines, ""])


def rendered(text):
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  section.command_line(sys.argv[1:], run, KEPT, rendered)
