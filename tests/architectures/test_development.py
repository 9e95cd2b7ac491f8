"""The path from MnasNet-A1 to MobileNetV3-Large, and what the papers print of every network."""

import json

import pytest
from conftest import ROOT

from mnv3_jax.architectures import cost, edits, printed, zoo

PATH = json.loads((ROOT / "tests" / "paper_tables.json").read_text())["count_path"]["rows"]
LARGE = zoo.mobilenetv3_large()


def rounded(a):
  return round(cost.params(a) / 1e6, 3), round(cost.madds(a) / 1e6, 1)


def test_the_path_and_its_counts():
  chain = [a for _, a in zoo.mobilenetv3_development()]
  assert [rounded(a) for a in chain[:5]] == [tuple(row[1:]) for row in PATH[:5]]
  assert chain[-1].replace(name=LARGE.name) == LARGE


@pytest.mark.parametrize(
  ("row", "edit"),
  [
    ("V3-Large with MnasNet SE rule (input/4)", lambda a: edits.with_se(a, of="input", divisor=1)),
    ("V3-Large without SE", lambda a: edits.with_se(a, ratio=0)),
    ("V3-Large with original last stage", lambda a: edits.with_last_stage(a, "original")),
    ("V3-Large with 32-filter stem", lambda a: edits.with_stem(a, 32)),
  ],
)
def test_single_steps_back(row, edit):
  assert rounded(edit(LARGE)) == next(tuple(r[1:]) for r in PATH if r[0] == row)


def test_what_is_printed_is_near_what_is_counted():
  for row in printed.ROWS:
    a = row.architecture()
    params, madds = float(row.params), min(float(m) for m in row.madds.split(" / "))
    known = "first version" in row.note or "65 M" in row.note
    assert known or abs(cost.params(a) / 1e6 - params) <= 0.05 * params + 0.06, row
    assert known or abs(cost.madds(a) / 1e6 - madds) <= 0.025 * madds + 1, row
  assert {row.model for row in printed.ROWS} == zoo.MODELS.keys() - zoo.BEYOND
