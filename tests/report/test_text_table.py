"""A table as text."""

from mnv3_jax.report.text_table import aligned


def test_columns_are_aligned():
  assert aligned(["name", "ms"], [["a", 1.5], ["longer", 10]]) == "name     ms\na       1.5\nlonger   10"
