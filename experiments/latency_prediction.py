"""Error of a latency table in predicting whole networks on this machine: a scatter plot and the error of each network.

python experiments/latency_prediction.py FOLDER     times everything (about 20 minutes on an idle core; FOLDER/table.json goes
                                                    on where it stopped) and keeps the results and the plot
python experiments/latency_prediction.py            draws and prints the kept results

V3-Large, V3-Small, V2 and MnasNet-A1 at widths 0.5, 0.75 and 1.0, and four others. Each is predicted from its own units, timed
one by one; and those narrower than 1.0 once more without any of these, from a grid around the units of width 1.0. The whole
networks are timed in rounds between the units, so that both see the same machine.
"""

import itertools
import json
import pathlib
import statistics
import sys
from typing import Any

import numpy as np

from mnv3_jax.architectures import units
from mnv3_jax.architectures.fields import architecture
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.report import plots
from mnv3_jax.runs.directory import write_atomically
from mnv3_jax.runs.progress import Counter

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "latency_prediction"

# networks that units were chosen by, and others
MODELS, WIDTHS = ("mobilenetv3_large", "mobilenetv3_small", "mobilenetv2", "mnasnet_a1"), (0.5, 0.75, 1.0)
OTHERS = (
  ("mobilenetv1", 0.5),
  ("mnasnet_small", 1.0),
  ("mobilenetv3_large_minimalistic", 1.0),
  ("mobilenetv3_small_minimalistic", 1.0),
)
NAMES = {
  "mobilenetv3_large": "V3-Large",
  "mobilenetv3_small": "V3-Small",
  "mobilenetv2": "V2",
  "mnasnet_a1": "MnasNet-A1",
  "others": "V1 0.5, minimalistic, MnasNet-small",
}
RUNS = 20
# timings of each unit, of each unit of the grid, and rounds of the whole networks before each of the former
ROUNDS, GRID_ROUNDS, WHOLE = 5, 3, 2


def whole(a: Architecture) -> bytes:
  """Returns the .tflite file of a whole network with random weights."""
  import jax
  import jax.numpy as jnp

  from mnv3_jax.export.converter import convert
  from mnv3_jax.export.tflite import PLAIN
  from mnv3_jax.models.classifier import Classifier
  from mnv3_jax.models.initialize import initialize

  variables = initialize(Classifier(a), 0)
  shape = (1, a.resolution, a.resolution, a.in_channels)
  return convert(lambda x: Classifier(a, PLAIN).apply(variables, x), jax.ShapeDtypeStruct(shape, jnp.float32))


def run(folder: pathlib.Path) -> dict[str, Any]:
  """Times units, networks and the grid, and returns the content of figures.json."""
  from mnv3_jax.latency.latency_table import LatencyTable, predict_latency, steady_ms
  from mnv3_jax.latency.timing import Host

  networks = {(m, w): architecture(m, width=w) for m, w in [*itertools.product(MODELS, WIDTHS), *OTHERS]}
  host = Host()
  table = LatencyTable.open(folder / "table.json", host)
  files = {f"{m} {w:g}": whole(a) for (m, w), a in networks.items()}
  own = units.distinct(*networks.values())
  widest = units.distinct(*(networks[m, 1.0] for m in MODELS))
  grid = units.grid(widest)
  rounds_file = folder / "whole.json"
  loads = json.loads(rounds_file.read_text()) if rounds_file.exists() else []
  with Counter("timings of units and of the grid") as on_progress:
    for rounds in range(1, ROUNDS + 1):
      while len(loads) < WHOLE * rounds:
        loads.append({name: steady_ms(one) for name, one in host.measure(files, RUNS, warmup=3).items()})
        write_atomically(rounds_file, json.dumps(loads))
      table.fill(own, on_progress=on_progress, rounds=rounds)
    table.fill(grid, on_progress=on_progress, rounds=GRID_ROUNDS)
  measured = {name: statistics.median(load[name] for load in loads) for name in files}

  kept = {unit.key for unit in (*widest, *grid)}
  held_out = [unit for unit in own if unit.key not in kept]
  coarse = table.without(held_out)
  rows = []
  for (m, w), a in networks.items():
    rows.append({"model": m, "width": w, "resolution": a.resolution, "measured_ms": measured[f"{m} {w:g}"]})
    rows[-1]["predicted_ms"] = predict_latency(a, table)
    rows[-1]["interpolated_ms"] = predict_latency(a, coarse) if m in MODELS and w < 1 else None
  tried = units.distinct(*(a for (m, w), a in networks.items() if m in MODELS and w < 1))
  pairs = [(table.latency(u), coarse.latency(u)) for u in tried if u.key not in kept]
  errors = sorted(abs(b / a - 1) for a, b in pairs)
  return {
    **table.about,
    "date": table.date,
    "units": len(own),
    "grid": len(grid),
    "rounds": len(loads),
    "runs": RUNS,
    "spread": statistics.median(max(load[n] for load in loads) / min(load[n] for load in loads) for n in files),
    "interpolated_units": {
      "n": len(errors),
      "median_error": statistics.median(errors),
      "p90_error": errors[len(errors) * 9 // 10],
    },
    "networks": rows,
  }


def summary(found: dict[str, Any]) -> str:
  """Formats the kept results as Markdown."""
  rows = found["networks"]
  lines = [
    "| network | width | measured, ms | predicted, ms | error | from the grid, ms | error |",
    "|---|---|---|---|---|---|---|",
  ]
  for r in rows:
    cells = [r["model"], f"{r['width']:g}", f"{r['measured_ms']:.2f}"]
    for kind in ("predicted_ms", "interpolated_ms"):
      cells += ["", ""] if r[kind] is None else [f"{r[kind]:.2f}", f"{r[kind] / r['measured_ms'] - 1:+.1%}"]
    lines.append(f"| {' | '.join(cells)} |")
  asked = [r for r in rows if r["model"] in MODELS]
  for name, kind, of in (
    ("the twelve", "predicted_ms", asked),
    ("all", "predicted_ms", rows),
    ("from the grid", "interpolated_ms", [r for r in rows if r["interpolated_ms"] is not None]),
  ):
    m, p = (np.array([r[k] for r in of]) for k in ("measured_ms", kind))
    worst = np.abs(p / m - 1).max()
    lines.append(f"\n{name}: {len(of)} networks, largest error {worst:.1%}, Pearson r {np.corrcoef(m, p)[0, 1]:.4f}")
  u = found["interpolated_units"]
  lines.append(
    f"\n{u['n']} units that were interpolated: error {u['median_error']:.1%} in the median, "
    f"below {u['p90_error']:.1%} for nine of ten"
  )
  lines.append(
    f"\n{found['device']}, {found['runtime']}, {found['threads']} thread; {found['units']} units, {found['grid']} of the grid; "
    f"whole networks in {found['rounds']} rounds, of which the slowest took {found['spread']:.2f} times as long as the fastest "
    f"(median of the networks); {found['date'][:10]}"
  )
  return "\n".join(lines)


def draw(found: dict[str, Any]) -> None:
  """Draws the scatter plot."""
  groups = {}
  for r in found["networks"]:
    name = NAMES[r["model"] if r["model"] in MODELS else "others"]
    groups.setdefault(name, []).append((r["measured_ms"], r["predicted_ms"]))
  asked = [(r["measured_ms"], r["predicted_ms"]) for r in found["networks"]]
  title = f"Latency of {len(asked)} networks at 224 px, from a table of {found['units']} units\n"
  title += f"{found['device']}, {found['threads']} thread; r = {np.corrcoef(*zip(*asked, strict=True))[0, 1]:.4f}"
  points = {name: tuple(zip(*pairs, strict=True)) for name, pairs in groups.items()}
  plots.predicted_against_measured(points, KEPT / "scatter.png", title, "latency, ms")


def main(arguments: list[str]) -> None:
  """Runs the command line."""
  KEPT.mkdir(parents=True, exist_ok=True)
  figures = KEPT / "figures.json"
  if arguments:
    figures.write_text(json.dumps(run(pathlib.Path(arguments[0])), indent=2) + "\n")
  found = json.loads(figures.read_text())
  draw(found)
  print(summary(found))


if __name__ == "__main__":
  main(sys.argv[1:])
