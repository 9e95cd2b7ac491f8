"""Every command of the README, and that the rest of it is true."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata

import photographs
import pytest
import seeds
from conftest import ROOT
from matplotlib import cbook
from safetensors.numpy import save_file

from mnv3_jax.weights import sources

sys.path.insert(0, str(ROOT / "experiments"))
sys.path.insert(0, str(ROOT / "benchmarks"))
import demo
import fine_tuning
import mini
import quantization
import tables

README = (ROOT / "README.md").read_text()


def commands():
  """The lines of all shell blocks, without comments."""
  blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
  return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def run(words, folder, **environment):
  """Standard output of a command of the clone's own environment; fails the test if the command fails."""
  path = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
  environment = {**os.environ, "PATH": path, **environment}
  done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment, timeout=1500)
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
  return done.stdout


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
  """A copy of what a clone has, with an environment and a demo that `make demo` has made, and what that printed."""
  clone = tmp_path_factory.mktemp("readme") / "clone"
  files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
  for name in files.stdout.split():
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, clone / name)
  return clone, run(["make", "demo", f"PYTHON={sys.executable}"], clone)


@pytest.mark.slow
def test_the_demo_reaches_its_figures(demonstrated):
  clone, out = demonstrated
  assert "what to type next" in out and "demo/report.md" in out
  assert {"report.md", "learning_curve.png", "predictions.png", "mobilenetv3_small.tflite"} <= {
    p.name for p in (clone / "demo").iterdir()
  }
  report = json.loads((clone / "demo" / "report.json").read_text())
  assert report["examples"] == 2000
  assert report["top1"]["ema"] >= 0.88
  assert report["tflite"]["agrees"] >= 1999
  assert report["tflite"]["partitions"] == 1


@pytest.mark.slow
def test_every_command(demonstrated):
  clone, _ = demonstrated
  # what a reader of the lines on import has downloaded
  save_file(seeds.tensors(sources.published("timm", "mobilenetv3_large_100")), clone / "model.safetensors")
  with cbook.get_sample_data("grace_hopper.jpg") as photo:
    (clone / "photo.jpg").write_bytes(photo.read())
  photographs.class_folders(clone / "flowers" / "train", 64)
  photographs.class_folders(clone / "flowers" / "val", 16, first=100)
  tried = []
  for line in commands():
    words = shlex.split(line)
    if words[0] == "mnv3":
      tried.append(run(words, clone, PYTHONWARNINGS="error"))
    elif words == ["pip", "install", "-r", "requirements.txt"]:
      run(words, clone)
    else:
      assert line in ("make demo", "make test", "source .venv/bin/activate") or words[:2] == ["pip", "install"], line
  assert len(tried) >= 15
  assert list((clone / "runs" / "speed" / "profile").rglob("perfetto_trace.json.gz"))


@pytest.mark.slow
def test_the_python_block(demonstrated):
  (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
  out = run(["python", "-c", code], demonstrated[0])
  assert "bneck 5×5" in out and "h-swish" not in out


def test_make_test_is_what_ci_runs():
  assert "make test" in commands() and "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_the_pip_lines_name_extras_that_jax_has():
  extras = [re.search(r"jax\[(\w+)\]", line)[1] for line in commands() if line.startswith("pip install -c")]
  assert extras == ["cuda13", "tpu"]
  assert set(extras) <= set(metadata.metadata("jax").get_all("Provides-Extra"))


def test_the_tables_are_those_of_kept_runs():
  assert demo.rendered(README) == README, "run: python experiments/demo.py"
  assert fine_tuning.rendered(README) == README, "run: python experiments/fine_tuning.py"
  assert quantization.rendered(README) == README, "run: python experiments/quantization.py"
  assert mini.rendered(README) == README, "run: python experiments/mini.py"


def test_the_figure_of_scenes_is_that_of_the_kept_report():
  report = json.loads((ROOT / "experiments" / "results" / "scenes" / "report.json").read_text())
  expected = (ROOT / "configs" / "scenes_segmentation.py").read_text()
  assert report["miou"]["ema"] >= 0.6 and report["tflite"]["miou"] == pytest.approx(report["miou"]["ema"], abs=1e-4)
  assert f"{report['tflite']['miou']:.4f} mIoU" in README and f"{report['miou']['ema']:.2f} mIoU" in expected
  assert report["seconds"] < 600 and (ROOT / "experiments" / "results" / "scenes" / "predictions.png").is_file()


@pytest.mark.parametrize("place", tables.PLACES, ids=lambda place: place.parent.name)
def test_the_tables_of_speed_are_those_of_kept_measurements(place):
  text = place.read_text()
  assert "<!-- from benchmarks/" in text and tables.rendered(text) == text, "run: python benchmarks/tables.py"


def test_the_kept_figures_are_what_is_claimed():
  """Points of top-1 that 8 bits cost, and latencies: the README's tables are made from these."""
  import json

  for network in json.loads(quantization.KEPT.read_text()).values():
    trained, aware = network["trained"], network["aware"]
    assert all(abs(trained[kind] - trained["none"]) <= 0.001 for kind in ("float16", "int8_weights"))
    assert all(trained[kind] >= trained["none"] - 0.01 for kind in quantization.AWARE_KINDS)
    assert all(aware[kind] >= trained["none"] - 0.005 for kind in quantization.AWARE_KINDS)
  kept = json.loads((ROOT / "benchmarks" / "results" / "files_cpu.json").read_text())["results"]
  found = {r["case"]["network"]: r["figures"] for r in kept}
  most = {"mobilenetv3_large": 0.75, "mobilenetv3_small": 0.85}
  for network, figures in found.items():
    assert figures["int8"]["ratio"] <= most.get(network, 1) and figures["int8_integer"]["ratio"] <= 1
    assert all(f["partitions"] == 1 for what, f in figures.items() if what != "keras.applications")
  for network in most:
    assert 1 / found[network]["keras.applications"]["ratio"] <= 1.02
  kept = json.loads((ROOT / "benchmarks" / "results" / "segmentation_cpu.json").read_text())["results"]
  for figures in (r["figures"] for r in kept):
    assert figures["float32"]["ratio"] <= 1.02 and figures["int8"]["ratio"] < 0.85
    assert figures["float32"]["operators"] == figures["TensorFlow's converter"]["operators"]
    assert all(f["partitions"] == 1 for f in figures.values())


def test_what_is_said_of_table_5_is_so():
  """No row's accuracy is further from V3-Large's than seeds are apart; latencies have the paper's ratios."""
  _, (base, *others) = mini.found()
  for row in others:
    assert abs(row.mean - base.mean) < max(row.spread, base.spread)
    for ours, printed in (("ms", "P1_ms"), ("ms_parts", "P1_parts_ms")):
      ratio, paper = getattr(row, ours) / getattr(base, ours), float(row.row.paper[printed]) / float(base.row.paper[printed])
      assert abs(ratio - paper) <= 0.03


def test_the_counts_are_the_values():
  from mnv3_jax.architectures import cost, zoo

  for model in zoo.MODELS.values():
    assert f"| {cost.params(model()):,} | {cost.madds(model()):,} |" in README


def test_links_and_pictures_are_there():
  for target in re.findall(r"\]\((?!http)(.*?)\)", README):
    assert (ROOT / target).is_file(), target


def test_requirements_pin_everything_that_is_installed():
  """The tests run in what requirements.txt says: what users install is what was tested."""
  for line in applicable():
    name, version = line.split(";")[0].strip().split("==")
    assert metadata.version(name) == version


def applicable():
  """The lines of requirements.txt whose marker holds here."""
  from packaging.requirements import Requirement

  lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
  return [line for line in lines if Requirement(line).marker is None or Requirement(line).marker.evaluate()]


def test_every_package_that_pyproject_names_is_pinned_for_every_python():
  import tomllib

  from packaging.requirements import Requirement

  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  extras = {name: of for name, of in project["optional-dependencies"].items() if name != "torch"}
  named = [*project["dependencies"], *(requirement for of in extras.values() for requirement in of)]
  lines = [line for name in ("requirements.txt", "requirements-extras.txt") for line in (ROOT / name).read_text().splitlines()]
  pins = [Requirement(line) for line in lines if line and line[0] != "#"]
  for python in ("3.11", "3.12"):
    where = {"python_version": python, "platform_system": "Linux", "platform_machine": "x86_64"}
    there = {p.name.lower().replace("_", "-") for p in pins if p.marker is None or p.marker.evaluate(where)}
    for requirement in map(Requirement, named):
      if requirement.marker is None or requirement.marker.evaluate(where):
        assert requirement.name.lower().replace("_", "-") in there, (python, requirement.name)
