"""The README's table and picture, from a demo's own report.

python experiments/demo.py demo        takes demo/report.json and demo/predictions.png into experiments/results/demo/
python experiments/demo.py             writes the README's table anew from experiments/results/demo/
"""

import json
import pathlib
import shutil
import sys

import section

from mnv3_jax.report.page import as_rows

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "demo"
BEGIN, END = "<!-- from experiments/demo.py -->\n", "<!-- end -->\n"


def table():
  """The kept figures as a Markdown table."""
  rows = as_rows(json.loads((KEPT / "report.json").read_text()))
  return "\n".join(["| `make demo` | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])


def rendered(readme):
  """A README's text with the table as it should be."""
  return section.put(readme, BEGIN, END, table())


def main(arguments):
  """The command line."""
  for folder in arguments:
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "predictions.png"):
      shutil.copy(pathlib.Path(folder) / name, KEPT / name)
  readme = ROOT / "README.md"
  readme.write_text(rendered(readme.read_text()))


if __name__ == "__main__":
  main(sys.argv[1:])
