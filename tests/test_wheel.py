"""A wheel holds all that the Python API needs: it is built from the tree, installed beside nothing of it, and used."""

import os
import pathlib
import site
import subprocess
import sys
import zipfile

import pytest
from conftest import CACHE, ROOT

pytestmark = pytest.mark.slow

# warnings are errors while it runs, as in all tests
PROGRAM = """
import mnv3_jax as mnv3
import numpy as np
from PIL import Image

assert CHECKOUT not in mnv3.__file__, mnv3.__file__
assert "mobilenetv3_small" in mnv3.list_models("*small*")
model, variables = mnv3.create_model("mobilenetv3_small", num_classes=10, resolution=32, width=0.05, width_rule="slim")
assert model.apply(variables, np.zeros((2, 32, 32, 3))).shape == (2, 10)

short = {"train.epochs": 1.0, "train.batch_size": 64, "data.train_split": "train[:256]", "data.eval_split": "test[:100]"}
config = mnv3.get_config("fashion_mnist", short, model_width=0.05, model_width_rule="slim")
assert next(mnv3.open_dataset(config).train_batches(0))["image"].shape == (64, 32, 32, 3)
run = mnv3.train(config, "run")
metrics = mnv3.evaluate(run)
assert metrics["count"] == 100 and metrics["top1"] == run.result["metrics"]["test"]["ema"]["top1"], metrics
Image.new("L", (28, 28)).save("black.png")
print(mnv3.predict(run, "black.png").lines())
exported = mnv3.export(run, "small.tflite")
assert exported.file.is_file() and exported.accuracy is not None
table = mnv3.build_table("table5")
assert {row.name: row.params for row in table.rows}["V3-Large 1.0"] == 5_483_032, table
print("all of it works")
"""


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def build(folder):
  """Builds the wheel from a copy of the files that git would see: a checkout may have an old build/ beside them."""
  seen = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
  listed = subprocess.run(seen, cwd=ROOT, capture_output=True, text=True, check=True).stdout
  for name in filter(None, listed.split("\0")):
    if (ROOT / name).is_file():
      (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
  words = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(folder / "source")]
  built = subprocess.run(words, capture_output=True, text=True)
  assert built.returncode == 0, built.stderr
  (wheel,) = folder.glob("*.whl")
  return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The wheel of this tree."""
  return build(tmp_path_factory.mktemp("wheel"))


def test_its_files(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  assert {pathlib.PurePath(n).name for n in names if n.startswith("mnv3_jax/configs/")} == {
    f.name for f in (ROOT / "configs").glob("*.py")
  }
  tables = {pathlib.PurePath(n).name for n in names if n.startswith("mnv3_jax/experiments/")}
  assert {"table5.py", "figure1.py"} <= tables and "demo.py" not in tables
  assert {"mnv3_jax/py.typed", "mnv3_jax/data/embedded/fashion_mnist_12k.npz"} <= set(names)
  assert {n.split("/")[0] for n in names if not n.startswith("mnv3_jax-")} == {"mnv3_jax"}


def test_everything_works_without_a_checkout(wheel, tmp_path):
  place, empty = tmp_path / "site", tmp_path / "empty"
  subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(place), str(wheel)], check=True)
  empty.mkdir()
  # the environment's packages but its editable install: .pth files count in site directories alone, and these are none then
  paths = [str(place), *site.getsitepackages()]
  env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
  env |= {"PYTHONPATH": os.pathsep.join(paths), "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
  program = f"CHECKOUT = {str(ROOT)!r}\n{PROGRAM}"
  done = subprocess.run(
    [sys.executable, "-S", "-W", "error", "-c", program], cwd=empty, env=env, capture_output=True, text=True, timeout=600
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert done.stdout.endswith("all of it works\n") and done.stderr == ""
  assert sorted(p.name for p in empty.iterdir()) == ["black.png", "run", "small.tflite", "small.tflite.json"]
