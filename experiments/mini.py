"""Table 5 at the scale mini, from runs that are kept in experiments/results: a table and a plot of the docs.

Command:  python experiments/mini.py RUNS   keeps the result files of runs at the scale mini, of any table, and of latencies
          python experiments/mini.py        writes the table and its plot
Machine:  12 runs, 7 to 12 minutes of one CPU core each
Result:   all four rows within the spread over seeds; the differences of ImageNet do not show at this scale

The runs: mnv3 sweep table5 --scale mini, and mnv3 table table5 --measure.
"""

import json
import pathlib
import shutil
import sys

import section

from mnv3_jax.runs.progress import duration
from mnv3_jax.tables import render
from mnv3_jax.tables.build import TableResult, build_table
from mnv3_jax.tables.scales import SCALES

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results"
BEGIN, END = "<!-- from experiments/mini.py -->\n", "<!-- end of mini -->\n"


def table5() -> TableResult:
  """Builds Table 5 from the kept runs."""
  return build_table(ROOT / "experiments" / "table5.py", scale="mini", runs=KEPT)


def rendered(text: str) -> str:
  """Returns the text of a page with the table as it should be."""
  table = render.as_markdown(table5().layout)
  seconds = [json.loads(file.read_text())["seconds"] for file in KEPT.glob("mini/*/seed_*/result.json")]
  took = f"{len(seconds)} runs, {duration(sum(seconds))} of one core each."
  return section.put(text, BEGIN, END, f"{table.rstrip()}  \n{took}\n")


def draw() -> None:
  """Draws the plot."""
  result = table5()
  (file, _), *_ = result.table.draw(list(result.rows), result.scale, KEPT)
  (KEPT / file).replace(KEPT / "table5.png")


def keep(runs: pathlib.Path) -> None:
  """Copies the small files that tables read: results of runs, records of .tflite files."""
  folders = [scale.folder for scale in SCALES if scale.name == "mini"]
  files = ("config.json", "result.json", "export/*.tflite.json")
  for pattern in ("latency/*/*.tflite.json", *(f"{folder}/*/seed_*/{file}" for folder in folders for file in files)):
    for file in runs.glob(pattern):
      if file.name == "config.json" and not (file.parent / "result.json").is_file():
        continue  # a run that is not finished
      kept = KEPT / file.relative_to(runs)
      kept.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(file, kept)


if __name__ == "__main__":
  for folder in sys.argv[1:]:
    keep(pathlib.Path(folder))
  section.write(rendered)
  draw()
