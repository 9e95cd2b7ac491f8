"""Latencies of MobileNetV1 to V4 beside the accuracies that timm publishes: table and plot of the docs, from kept records.

Command:  python experiments/family.py      writes both
Machine:  any

The records: mnv3 table mobilenetv4_family --measure.
"""

import section
from mini import KEPT, ROOT, draw

from mnv3_jax.tables.build import TableResult, build_table

BEGIN, END = "<!-- from experiments/family.py -->\n", "<!-- end of family -->\n"


def built() -> TableResult:
  """Builds the table from the kept records."""
  return build_table(ROOT / "experiments" / "mobilenetv4_family.py", runs=KEPT)


def table() -> str:
  """Formats latencies and timm's accuracies as a Markdown table: a row for each network."""
  rows = {row.name: row for row in built().rows}
  lines = ["| network | timm's top-1, % | float32, ms | int8, ms | int8, × float32 |", "|---" * 5 + "|"]
  for name, row in rows.items():
    if "top1" in row.row.paper:
      ms, int8 = row.ms, rows[f"{name}, int8"].ms
      assert ms is not None and int8 is not None
      lines.append(f"| {name} | {float(row.row.paper['top1']):.1f} | {ms:.2f} | {int8:.2f} | {int8 / ms:.2f} |")
  (device,) = {row.device for row in rows.values()}
  return "\n".join([*lines, "", f"{device}, one thread, batch 1, 224 px where the row says nothing else.", ""])


def rendered(text: str) -> str:
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  section.write(rendered)
  draw("mobilenetv4_family", built())
