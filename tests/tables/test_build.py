"""build_table: a table as a value with its renderings, from a checkout and without one."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from mnv3_jax.errors import UsageError
from mnv3_jax.tables.build import build_table

KEPT = ROOT / "experiments" / "results"


def test_counts_without_any_run(tmp_path):
  table = build_table("table5", runs=tmp_path)
  assert [(row.params, row.madds, row.mean, row.std) for row in table.rows] == 4 * [(5_483_032, 216_589_760, None, None)]
  assert table.scale.name == "imagenet" and table["ReLU"].missing == (0,)
  assert repr(table) == "<TableResult table5: Non-linearities on V3-Large; 4 rows, 0 of 4 networks run at imagenet>"


def test_results_and_renderings():
  table = build_table("table5", scale="mini", runs=KEPT)
  assert table["V3-Large 1.0"].mean == pytest.approx(83.34, abs=0.01) and table["ReLU"].std > 0
  assert table["V3-Large 1.0"].row.paper["top1"] == "75.2" and table["h-swish@16"].ms > 0
  assert str(table).startswith("Non-linearities on V3-Large (Table 5 of") and "83.34 ± 0.32" in str(table)
  assert table.markdown().startswith("# Non-linearities on V3-Large\n") and table._repr_markdown_() == table.markdown()
  assert table.csv().startswith("model,top1,top1_err,top5,")
  assert table.missing() == {} and "4 of 4 networks run at mini" in repr(table)


def test_missing_values_have_commands():
  table = build_table("table9", scale="mini", runs=KEPT, seeds=2)
  runs = table.missing()["All runs that are missing"]
  assert runs.startswith("mnv3 sweep table9 --scale mini --runs ") and runs.endswith(" --seeds 2")


def test_a_page_of_one_table(tmp_path):
  page = build_table("figure6").write(tmp_path / "out")
  assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["figure6.md", "figure6.png", "index.html"]
  assert "<h2" in page.read_text()


def test_a_file_of_ones_own_and_its_commands(tmp_path):
  file = tmp_path / "mine.py"
  shutil.copy(ROOT / "experiments" / "table5.py", file)
  table = build_table(file, runs=tmp_path)
  assert table.name == "mine" and f"mnv3 sweep {file} " in table.missing()["All runs that are missing"]


@pytest.mark.parametrize(
  "name, arguments, sentence",
  [
    ("tabel5", {}, "no table 'tabel5'; did you mean 'table5'"),
    ("table5", {"scale": "cityscapes"}, "invalid scale='cityscapes' for tables about top-1; expected imagenet or mini"),
    ("table5", {"scale": "minni"}, "invalid scale='minni' for tables about top-1; did you mean 'mini'"),
    ("table5", {"seeds": 0}, "invalid seeds=0; expected a whole number above 0"),
    ("table5", {"runs": ROOT / "README.md"}, "expected the directory of all runs"),
    ("table5", {"overrides": ["--config.train.seed=3"]}, "train.seed differs between the runs of a table"),
  ],
)
def test_wrong_arguments(name, arguments, sentence):
  with pytest.raises(UsageError, match=sentence):
    build_table(name, **arguments)


def test_an_unknown_row_names_the_nearest(tmp_path):
  with pytest.raises(KeyError, match="no row 'h-swish@11'; did you mean 'h-swish@112'"):
    build_table("table5", runs=tmp_path)["h-swish@11"]


def test_an_installed_package_needs_no_checkout(tmp_path):
  """With configs/ and experiments/ inside the package, as a wheel has them."""
  ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
  shutil.copytree(ROOT / "mnv3_jax", tmp_path / "site" / "mnv3_jax", ignore=ignored, dirs_exist_ok=True)
  for name in ("configs", "experiments"):
    (tmp_path / "site" / "mnv3_jax" / name).mkdir(exist_ok=True)
    for file in (ROOT / name).glob("*.py"):
      shutil.copy(file, tmp_path / "site" / "mnv3_jax" / name)
  program = "from mnv3_jax.tables.build import build_table as b\nprint(b('table5')['ReLU'].params, len(b('figure7').rows))"
  (tmp_path / "empty").mkdir()
  environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=tmp_path / "empty", env=environment, capture_output=True, text=True
  )
  assert done.stdout == "5483032 22\n", done.stderr
