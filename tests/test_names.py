"""Names from outside are data, wherever they are shown."""

import pytest
from hypothesis import given, strategies as st

from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted, csv_cell, file_name, markdown, printable, require_printable
from mnv3_jax.report.text_table import markdown_table

HOSTILE = [
  "\x1b[31mred",
  "two\nlines",
  "bell\a",
  "\u202egnp.exe",
  "caf\udce9",
  "<script>alert(1)</script>",
  "[x](javascript:alert(1))",
  "a|b",
  "`code`",
  "../../etc/passwd",
  "",
]


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("shoe", "shoe"),
    ("Schuh größe 3", "Schuh größe 3"),
    ("\x1b[31mred", "\\x1b[31mred"),
    ("a\nb", "a\\nb"),
    ("caf\udce9", "caf\\udce9"),
  ],
)
def test_what_cannot_be_printed_is_escaped(name, shown):
  assert printable(name) == shown


def test_counts():
  assert [counted(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
  assert [counted(n, "class", "classes") for n in (0, 1, 10)] == ["0 classes", "1 class", "10 classes"]


@given(st.text() | st.sampled_from(HOSTILE))
def test_no_name_leaves_its_line_or_cell(name):
  assert printable(name).isprintable() and printable(printable(name)) == printable(name)
  (_, _, row) = markdown_table(["a", "b"], [[name, 1]]).splitlines()
  cells = row.replace("\\\\", "").replace("\\|", "")
  assert cells.count("|") == 3 and "<" not in row
  part = file_name(name)
  assert part.isprintable() and "/" not in part and not part.startswith(".") and 0 < len(part) <= 100


def test_markdown_shows_no_link_and_no_html():
  assert markdown("[x](javascript:1)") == "\\[x\\](javascript:1)" and markdown("<b>") == "&lt;b>"


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "", "  ", "a\u202eb", "caf\udce9"])
def test_a_class_whose_name_cannot_be_printed_is_refused(name):
  with pytest.raises(UsageError, match="expected names of printable characters on one line"):
    require_printable(["shoe", name], "config.data.classes")


@pytest.mark.parametrize(
  ("text", "cell"), [("Pixel 1", "Pixel 1"), ("=cmd()", "'=cmd()"), ("  @SUM(1)", "'  @SUM(1)"), ("a\n=1", "a\\n=1")]
)
def test_no_name_is_a_formula_of_a_spreadsheet(text, cell):
  assert csv_cell(text) == cell
