"""Data sets and recipes for the scale mini of classification tables, by how well they tell networks apart.

python experiments/mini_task.py FOLDER    trains in FOLDER what it lacks (an hour and a half on two cores; killed, the same
                                          command goes on) and keeps the figures in experiments/results/mini_task.json
python experiments/mini_task.py           writes the docs' table from these

Four networks are trained with three seeds on each candidate. The figure of merit, fixed before any was chosen: the difference
of the mean top-1 of V3-Large and V3-Large 0.35, by the standard deviation between seeds (at least 5), and that of V3-Small and
V3-Small 0.5 (at least 3); a training of V3-Small takes at most three minutes of two cores.
"""

import itertools
import json
import math
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

import section

from mnv3_jax.runs.progress import duration
from mnv3_jax.sweeps.launch import run_trials
from mnv3_jax.sweeps.trial import Trial

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "mini_task.json"
BEGIN, END = "<!-- from experiments/mini_task.py -->\n", "<!-- end of mini_task -->\n"

LARGE, SMALL = "mobilenetv3_large", "mobilenetv3_small"
# (network, width) by name; the first two and the last two are compared
NETWORKS = {
  "V3-Large": (LARGE, 1.0),
  "V3-Large 0.35": (LARGE, 0.35),
  "V3-Small": (SMALL, 1.0),
  "V3-Small 0.5": (SMALL, 0.5),
}
FEW = {"data.train_split": "train[:4000]", "data.eval_split": "train[4000:]", "train.epochs": 30.0}
# config and overrides by name
CANDIDATES: dict[str, tuple[str, Mapping[str, object]]] = {
  "10,000 photos, 12 epochs": ("fashion_mnist", {"train.epochs": 12.0}),
  "4,000 photos, 30 epochs": ("fashion_mnist", FEW),
  "4,000 photos, 12 epochs": ("fashion_mnist", {**FEW, "train.epochs": 12.0}),
  "4,000 photos, 30 epochs, 48 px": ("fashion_mnist", {**FEW, "model.resolution": 48}),
  "scenes, 64,000 images, 48 px": ("scenes_classification", {}),
  "poses, 12 epochs": ("poses", {}),
}
SEEDS = (0, 1, 2)


def trial(folder: pathlib.Path, candidate: str, network: str, seed: int) -> Trial:
  """Returns one training."""
  config, overrides = CANDIDATES[candidate]
  model, width = NETWORKS[network]
  name = f"{candidate}/{network}/seed_{seed}".replace(" ", "_").replace(",", "")
  fields = {**overrides, "model.width": width, "train.seed": seed, "evaluate.every": 100.0, "checkpoint.every": 100.0}
  words = [f"--config.{field}={value}" for field, value in fields.items()]
  command = (
    "mnv3",
    "train",
    "--config",
    str(ROOT / "configs" / f"{config}.py:{model}"),
    "--workdir",
    str(folder / name),
    *words,
  )
  return Trial(name=name, directory=folder / name, commands=(command,), results=(folder / name / "result.json",))


def run(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Trains every network on every candidate; returns name, top-1 and seconds of each training that is done."""
  trials = {key: trial(folder.absolute(), *key) for key in itertools.product(CANDIDATES, NETWORKS, SEEDS)}
  run_trials("local", trials.values(), logs=folder / "logs", jobs=2)
  found = []
  for (candidate, network, seed), one in trials.items():
    if one.done:
      result = json.loads(one.results[0].read_text())
      top1 = result["metrics"]["test"]["ema"]["top1"]
      about = {"candidate": candidate, "network": network, "seed": seed}
      found.append({**about, "top1": top1, "steps": result["steps"], "seconds": result["seconds"]})
  return found


def merit(larger: list[float], smaller: list[float]) -> float:
  """Returns the difference of the means by the standard deviation between seeds, pooled over both networks."""
  deviation = math.sqrt((statistics.variance(larger) + statistics.variance(smaller)) / 2)
  return (statistics.mean(larger) - statistics.mean(smaller)) / deviation


def table() -> str:
  """Formats the kept results as a Markdown table."""
  kept = json.loads(KEPT.read_text())
  lines = ["| candidate | " + " | ".join(NETWORKS) + " | merit, V3-Large | merit, V3-Small | V3-Small takes |"]
  lines.append("|---" * (len(NETWORKS) + 4) + "|")
  for candidate in dict.fromkeys(row["candidate"] for row in kept):
    rows = [row for row in kept if row["candidate"] == candidate]
    top1 = {name: [100 * row["top1"] for row in rows if row["network"] == name] for name in NETWORKS}
    cells = [f"{statistics.mean(v):.1f} ± {statistics.stdev(v):.1f}" if len(v) == len(SEEDS) else "" for v in top1.values()]
    names = list(NETWORKS)
    for larger, smaller in (names[:2], names[2:]):
      both = len(top1[larger]) == len(top1[smaller]) == len(SEEDS)
      cells.append(f"{merit(top1[larger], top1[smaller]):.1f}" if both else "")
    # null: of a training that was suspended
    seconds = [row["seconds"] for row in rows if row["network"] == "V3-Small"]
    known = len(seconds) == len(SEEDS) and None not in seconds
    cells.append(f"{duration(statistics.mean(seconds))} of one core" if known else "")
    lines.append("| " + " | ".join([candidate, *cells]) + " |")
  return "\n".join(lines) + "\n"


def rendered(text: str) -> str:
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  import sys

  section.command_line(sys.argv[1:], run, KEPT, rendered)
