"""Gain and cost of distillation at the scale mini: MobileNetV3-Small taught by MobileNetV3-Large, and by the labels alone.

python experiments/distillation.py FOLDER   trains in FOLDER what it lacks (about half an hour on two cores; killed, the same
                                            command goes on) and keeps the figures in experiments/results/distillation.json
python experiments/distillation.py          writes the docs' table from these

Every student is trained with three seeds for as many steps as without a teacher; the teacher is one training of V3-Large. The
time of a step is measured in turn with and without it.
"""

import json
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

import section

from mnv3_jax.sweeps.launch import run_trials
from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.tables.scales import override_words

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "distillation.json"
BEGIN, END = "<!-- from experiments/distillation.py -->\n", "<!-- end of distillation -->\n"

TEACHER, STUDENT = "mobilenetv3_large", "mobilenetv3_small"
# share of the loss and temperature, by name
STUDENTS: dict[str, Mapping[str, float]] = {
  "labels alone": {},
  "weight 0.5, temperature 2": {"weight": 0.5, "temperature": 2.0},
  "weight 0.9, temperature 2": {"weight": 0.9, "temperature": 2.0},
}
SEEDS = (0, 1, 2)
# steps of the trainings whose difference is the time of a step, and how often both are timed
FEW, MANY, ROUNDS = 40, 240, 3
SHORT = {"data.eval_split": "test[:10]"}


def training(directory: pathlib.Path, model: str, fields: Mapping[str, object]) -> Trial:
  """Returns one training."""
  config = f"{ROOT / 'configs' / 'poses.py'}:{model}"
  command = ("mnv3", "train", "--config", config, "--workdir", str(directory), *override_words(fields))
  return Trial(name=directory.name, directory=directory, commands=(command,), results=(directory / "result.json",))


def run(folder: pathlib.Path) -> dict[str, Any]:
  """Trains the teacher and all students; returns their top-1 and the time of a step."""
  folder = folder.absolute()
  teacher = training(folder / "teacher", TEACHER, {})
  students = {}
  for (name, distilled), seed in ((item, seed) for item in STUDENTS.items() for seed in SEEDS):
    fields = {"train.seed": seed, **{f"distill.{field}": value for field, value in distilled.items()}}
    fields |= {"distill.teacher": str(teacher.directory)} if distilled else {}
    students[name, seed] = training(folder / f"{name.replace(' ', '_').replace(',', '')}_{seed}", STUDENT, fields)
  for trials in ([teacher], students.values()):
    run_trials("local", trials, logs=folder / "logs", jobs=min(2, len(trials)))
  rows = [{"student": name, "seed": seed, "top1": top1(trial)} for (name, seed), trial in students.items()]
  return {"teacher": top1(teacher), "students": rows, "step_ms": step_ms(folder, teacher)}


def top1(trial: Trial) -> float:
  """Returns the top-1 of the averaged weights."""
  return json.loads(trial.results[0].read_text())["metrics"]["test"]["ema"]["top1"]


def step_ms(folder: pathlib.Path, teacher: Trial) -> dict[str, float]:
  """Returns the milliseconds of a step with and without a teacher: medians of trainings of many steps less those of few."""
  found: dict[str, list[float]] = {"with": [], "without": []}
  for i in range(ROUNDS):
    for name, fields in (("with", {"distill.teacher": str(teacher.directory)}), ("without", {})):
      timed = {
        steps: training(folder / "timed" / f"{name}_{steps}_{i}", STUDENT, {**fields, "train.steps": steps, **SHORT})
        for steps in (FEW, MANY)
      }
      run_trials("local", timed.values(), logs=folder / "logs", jobs=1)
      few, many = (json.loads(trial.results[0].read_text())["seconds"] for trial in timed.values())
      found[name].append(1e3 * (many - few) / (MANY - FEW))
  return {name: round(statistics.median(values), 2) for name, values in found.items()}


def table() -> str:
  """Formats the kept results as a Markdown table."""
  kept = json.loads(KEPT.read_text())
  lines = ["| V3-Small, taught by | top-1, % | gain, points | time of a step |", "|---|---|---|---|"]
  alone = [row["top1"] for row in kept["students"] if row["student"] == "labels alone"]
  for name in STUDENTS:
    rows = [row for row in kept["students"] if row["student"] == name]
    gains = [100 * (row["top1"] - without) for row, without in zip(rows, alone, strict=True)]
    cells = [name if name == "labels alone" else f"V3-Large, {name}", spread([100 * row["top1"] for row in rows])]
    cells.append("" if name == "labels alone" else spread(gains))
    ms = kept["step_ms"]
    cells.append("1" if name == "labels alone" else f"{ms['with'] / ms['without']:.1f} ×")
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines) + f"\n\nThe teacher has {100 * kept['teacher']:.1f} %.\n"


def spread(values: list[float]) -> str:
  """Formats a mean and its standard deviation over seeds."""
  return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def rendered(text: str) -> str:
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  import sys

  section.command_line(sys.argv[1:], run, KEPT, rendered)
