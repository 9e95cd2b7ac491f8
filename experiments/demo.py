"""The table and picture of the demo in the docs, from its own report.

python experiments/demo.py demo        takes demo/report.json and demo/predictions.png into experiments/results/demo/
python experiments/demo.py             writes the table anew from experiments/results/demo/
"""

import json
import pathlib
import shutil
import sys

import section

from mnv3_jax.report.page import metric_rows

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "demo"
BEGIN, END = "<!-- from experiments/demo.py -->\n", "<!-- end -->\n"


def table():
  """The kept figures as a Markdown table."""
  report = json.loads((KEPT / "report.json").read_text())
  tflite, examples = report["tflite"], report["examples"]
  agrees = f"on {tflite['agrees']:,} of {examples:,}; largest difference of a logit {tflite['max_difference']:.1e}"
  rows = metric_rows(report, "top1", "top-1", agrees, "of")
  return "\n".join(["| `make demo` | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])


def rendered(text):
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


def main(arguments):
  """The command line."""
  for folder in arguments:
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "predictions.png"):
      shutil.copy(pathlib.Path(folder) / name, KEPT / name)
  section.write(rendered)


if __name__ == "__main__":
  main(sys.argv[1:])
