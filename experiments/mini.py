"""The README's part on Table 5 at the scale mini: what `mnv3 table table5` shows of the runs that are kept here.

python experiments/mini.py RUNS   takes the result files of runs at the scale mini, of any table, and of latencies (mnv3 sweep
                                  table5 --scale mini; mnv3 table table5 --measure) into experiments/results/
python experiments/mini.py        writes the README's table and its plot anew from these
"""

import json
import pathlib
import shutil
import sys

import section

from mnv3_jax.runs.progress import duration
from mnv3_jax.tables import columns, grid, render, results, scales, table

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results"
BEGIN, END = "<!-- from experiments/mini.py -->\n", "<!-- end of mini -->\n"
MINI = scales.of("mini", columns.FIGURES["top1"])


def found():
  """Table 5 and its Results."""
  table5 = table.load(ROOT / "experiments" / "table5.py")
  return table5, results.collect(table5, KEPT, MINI)


def rendered(readme):
  """A README's text with the table as it should be."""
  table5, rows = found()
  shown = render.as_markdown(grid.grid(table5, rows, MINI, "experiments/results"))
  seconds = [json.loads(file.read_text())["seconds"] for file in KEPT.glob("mini/*/seed_*/result.json")]
  took = f"{len(seconds)} runs, {duration(sum(seconds))} of one core each."
  return section.put(readme, BEGIN, END, f"{shown.rstrip()}  \n{took}\n")


def draw():
  """The plot."""
  table5, rows = found()
  (file, _), *_ = table5.draw(rows, MINI, KEPT)
  (KEPT / file).replace(KEPT / "table5.png")


def keep(runs):
  """Copies the small files that tables read: results of runs, records of .tflite files."""
  folders = [scale.folder for scale in scales.SCALES if scale.name == "mini"]
  files = ("config.json", "result.json", "export/*.tflite.json")
  for pattern in ("latency/*/*.tflite.json", *(f"{folder}/*/seed_*/{file}" for folder in folders for file in files)):
    for file in runs.glob(pattern):
      kept = KEPT / file.relative_to(runs)
      kept.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(file, kept)


if __name__ == "__main__":
  for folder in sys.argv[1:]:
    keep(pathlib.Path(folder))
  section.README.write_text(rendered(section.README.read_text()))
  draw()
