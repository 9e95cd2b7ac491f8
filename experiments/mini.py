"""Tables at the scale mini, from runs that are kept in experiments/results: tables and plots of the docs.

Command:  python experiments/mini.py RUNS   keeps the result files of runs at the scale mini, of any table, and of latencies
          python experiments/mini.py        writes the tables and their plots
Machine:  2 to 11 minutes of one busy CPU core for a run of Table 3 or 5, 7 to 16 for one of Table 6

The runs: mnv3 sweep NAME --scale mini, for each table; mnv3 table NAME --measure.
"""

import pathlib
import shutil
import sys
import tempfile

import section

from mnv3_jax.tables import render
from mnv3_jax.tables.build import TableResult, build_table
from mnv3_jax.tables.scales import SCALES

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results"
# names of the tables, and the folders of their runs
TABLES = {"table3": "mini_poses", "table4": "mini_poses", "table5": "mini_poses", "table6": "mini_detection"}
END = "<!-- end of mini -->\n"


def begin(name: str) -> str:
  """Returns the mark before a table."""
  return f"<!-- from experiments/mini.py: {name} -->\n"


def table(name: str) -> TableResult:
  """Builds a table from the kept runs."""
  return build_table(ROOT / "experiments" / f"{name}.py", scale="mini", runs=KEPT)


def rendered(text: str) -> str:
  """Returns the text of a page with the tables as they should be."""
  for name, folder in TABLES.items():
    if begin(name) in text:
      found = table(name)
      files = [file for row in found.table.rows for file in KEPT.glob(f"{folder}/{row.key}/seed_*/result.json")]
      markdown = render.as_markdown(found.layout)
      text = section.put(text, begin(name), END, f"{markdown.rstrip()}  \n{len(files)} runs.\n")
  return text


def draw(name: str, result: TableResult) -> None:
  """Draws the first plot of a table as experiments/results/NAME.png."""
  with tempfile.TemporaryDirectory() as folder:
    (file, _), *_ = result.table.draw(list(result.rows), result.scale, pathlib.Path(folder))
    shutil.copy(pathlib.Path(folder, file), KEPT / f"{name}.png")


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
  for name in TABLES:
    draw(name, table(name))
