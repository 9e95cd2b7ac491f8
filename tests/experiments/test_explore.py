"""The notebook: what is kept reads well and fits the project; executed anew, it does what it says; what Colab has stays."""

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
import explore

KEPT = json.loads(explore.NOTEBOOK.read_text())

# what CI has for it, and what it must not take of a page
SECONDS, BYTES = 300, 1_000_000


def code(notebook):
  """{id: cell} of the code cells, in their order."""
  return {cell["id"]: cell for cell in notebook["cells"] if cell["cell_type"] == "code"}


def source(cell):
  """The text of a cell."""
  return "".join(cell["source"])


def text(cell):
  """All that a cell's outputs say: printed text and Markdown."""
  parts = [o.get("text") or o["data"].get("text/markdown", "") for o in cell["outputs"]]
  return "".join("".join(part) for part in parts)


def pictures(cell):
  """The PNGs of a cell."""
  return [o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {})]


def says_what_it_must(notebook):
  """What the outputs of a notebook have, kept or fresh."""
  cells = code(notebook)
  assert "1²×1280" in text(cells["network"]) and "5,483,032 parameters and 216,589,760" in text(cells["network"])
  assert "2,542,856 | 56,510,400" in text(cells["costs"]) and "yours" in text(cells["costs"])
  top1 = [float(found) for found in re.findall(r"seed \d: top-1 (0\.\d+) of 2,000", text(cells["train"]))]
  assert len(top1) == 2 and min(top1) > 0.7
  files = re.findall(r"`explore/(\w+)\.tflite` \| ([\d.]+) \|.*\| ([\d.]+)%? \| (0\.\d+) \|", text(cells["export"]))
  assert [name for name, *_ in files] == ["float32", "int8"]
  assert float(files[0][1]) > 3 * float(files[1][1])
  assert float(files[0][2]) == 100 and float(files[0][3]) == pytest.approx(top1[0], abs=2e-3)
  for cell in ("rows", "costs", "train", "photo", "compare", "tradeoff"):
    assert len(pictures(cells[cell])) == 1, cell
  assert "points apart" in text(cells["tradeoff"])


def test_what_is_kept_was_run_from_top_to_bottom():
  cells = list(code(KEPT).values())
  assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
  for cell in cells:
    assert cell["outputs"], source(cell)
    for output in cell["outputs"]:
      assert output["output_type"] != "error" and output.get("name") != "stderr"
  says_what_it_must(KEPT)


def test_what_is_kept_is_clean():
  kept = explore.NOTEBOOK.read_text()
  assert len(kept) < BYTES
  assert json.dumps(explore.cleaned(KEPT), indent=1, ensure_ascii=False) + "\n" == kept
  words = "\n".join(source(cell) + text(cell) for cell in KEPT["cells"] if cell["cell_type"] == "code")
  assert not re.search(r"(?<![\w:/.])/(home|root|tmp|work|Users|usr|content|var)/|\x1b|\r|it/s|B/s", words)
  assert "0x" not in words
  # only pictures and what people read: no text twin of a picture that names an object
  kinds = {kind for cell in code(KEPT).values() for o in cell["outputs"] for kind in o.get("data", {})}
  assert kinds == {"image/png", "text/markdown", "text/plain"}


def test_it_opens_in_colab_from_one_repository():
  badge = source(KEPT["cells"][0])
  (repository,) = re.findall(r'^REPOSITORY = "([\w-]+/[\w-]+)"', source(code(KEPT)["install"]), re.M)
  assert f"(https://colab.research.google.com/github/{repository}/blob/main/experiments/explore.ipynb)" in badge
  assert badge.startswith("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]")
  others = [source(cell).count(repository) for cell in KEPT["cells"]]
  assert sum(others) == 2


def test_it_uses_what_there_is():
  scope = {}
  trees = [ast.parse(source(cell)) for cell in code(KEPT).values()]
  for node in (node for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)):
    # a name that is not there raises; IPython is there where a notebook is
    if "IPython" not in ast.unparse(node):
      exec(ast.unparse(node), scope)
  ours = {name: module for name, module in scope.items() if getattr(module, "__name__", "").startswith("mnv3_jax.")}
  called = {
    (node.value.id, node.attr)
    for tree in trees
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours
  }
  assert {("cost", "params"), ("tflite", "seeded"), ("results", "collect")} <= called
  for module, name in called:
    assert hasattr(ours[module], name), f"{module}.{name}"


def test_its_settings_are_fields_of_the_config():
  from mnv3_jax.config import read_config

  cell = source(code(KEPT)["train"])
  names = {"EPOCHS": 3.0}
  for line in re.findall(r"^SHORT (?:\||)= .*$", cell, re.M):
    exec(line, names)
  config = read_config(str(ROOT / "configs" / "fashion_mnist.py"), [f"--config.{k}={v}" for k, v in names["SHORT"].items()])
  assert config.train.epochs == names["EPOCHS"] and config.optim.ema == 0.98


@pytest.mark.engines
def test_it_runs_from_top_to_bottom(tmp_path):
  notebook = explore.source()
  began = time.monotonic()
  explore.execute(notebook, tmp_path)
  seconds = time.monotonic() - began
  fresh = explore.cleaned(notebook)
  says_what_it_must(fresh)
  for cell in code(fresh).values():
    for output in cell["outputs"]:
      assert output.get("name") != "stderr", "".join(output["text"])
  files = {file.name: file.read_bytes() for file in (tmp_path / "explore").glob("*.tflite")}
  assert files.keys() == {"float32.tflite", "int8.tflite"}
  assert all(content[4:8] == b"TFL3" for content in files.values())
  assert {path.name for path in tmp_path.iterdir()} == {"explore"}
  assert seconds < SECONDS


@pytest.fixture
def kernel(tmp_path):
  """Runs cells one after the other in a kernel: (source, hear) -> the reply's status; `hear` gets what cells show."""
  from jupyter_client.kernelspec import KernelSpecManager
  from jupyter_client.manager import KernelManager

  manager = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
  manager.start_kernel(cwd=str(tmp_path))
  client = manager.client()
  client.start_channels()
  client.wait_for_ready(timeout=60)

  def run(words, hear=lambda message: None):
    return client.execute_interactive(words, timeout=SECONDS, output_hook=hear)["content"]["status"]

  run.interrupt = manager.interrupt_kernel
  try:
    yield run
  finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    manager.context.destroy()


@pytest.mark.engines
def test_a_training_that_is_stopped_goes_on(kernel, tmp_path):
  """As people do it: stop the cell while its curve grows, run it again."""
  cells = code(KEPT)
  for name in ("install", "network", "rows", "change"):
    assert kernel(source(cells[name])) == "ok"
  assert kernel("OUT = pathlib.Path('explore')\nfrom IPython.display import Markdown, display") == "ok"
  often = '"train.log_every": 2, "evaluate.every": 10.0, "checkpoint.every": 10.0, "data.eval_split": "test[:200]"'
  definitions, training = source(cells["train"]).split("reached = ")
  definitions = definitions.replace("EPOCHS = 3.0", "EPOCHS = 0.5").replace(
    '"train.log_every": 13, "evaluate.every": 0.5', often
  )
  assert often in definitions
  assert kernel(definitions) == "ok"
  run = tmp_path / "explore" / "runs" / "small-seed=0"
  metrics = run / "metrics.jsonl"

  stopped = []

  def stop(message):
    # once: another signal could come while the kernel answers
    if not stopped and metrics.is_file() and metrics.read_text().count("\n") >= 3:
      stopped.append(message)
      kernel.interrupt()

  training = "reached = train(('V3-Small', 0))"
  assert kernel(training, stop) == "error"
  steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
  assert 6 <= steps[-1] < 78
  assert [path.name.isdigit() for path in (run / "checkpoints").iterdir()] and not (run / "result.json").exists()
  assert kernel(training) == "ok"
  assert "goes on after step" in pathlib.Path(f"{run}.log").read_text()
  assert json.loads((run / "result.json").read_text())["steps"] == 78


@pytest.mark.engines
def test_colab_keeps_the_jax_that_is_there(tmp_path):
  """The install cell where there is no package but an older jax, and the repository is this checkout."""
  python = tmp_path / "environment" / "bin" / "python"
  subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "environment")], check=True)
  there, newer = ("0.10.1", "0.10.2") if sys.version_info < (3, 12) else ("0.11.1", "0.11.2")
  assert f"jax=={newer} ;" in (ROOT / "requirements.txt").read_text()
  pip = [python, "-m", "pip", "install", "--quiet", f"jax=={there}", f"jaxlib=={there}"]
  subprocess.run(pip, check=True)
  clone = tmp_path / "clone"
  files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
  for name in files.stdout.split():
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, clone / name)
  git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
  for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=all"]):
    subprocess.run([*git, *words], cwd=clone, check=True)
  repository = re.search(r'^REPOSITORY = "(.*?)"', source(code(KEPT)["install"]), re.M)[1]
  # what git would fetch from there it takes from here
  instead = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf"}
  instead["GIT_CONFIG_VALUE_0"] = f"https://github.com/{repository}"
  environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | instead
  look = "import jax, mnv3_jax, numpy\nprint(jax.__version__, mnv3_jax.__file__, numpy.__version__)"
  words = source(code(KEPT)["install"]) + "\n" + look

  def run():
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return subprocess.run([python, "-c", words], cwd=work, capture_output=True, text=True, env=environment)

  first = run()
  assert first.returncode == 0, first.stderr
  numpy = re.search(r"^numpy==(.*)$", (ROOT / "requirements.txt").read_text(), re.M)[1]
  package = tmp_path / "work" / "mobilenetv3" / "mnv3_jax" / "__init__.py"
  assert first.stdout.splitlines() == ["the package is there", f"{there} {package} {numpy}"]
  # a session that is started again finds it, and needs no repository any more
  environment["GIT_CONFIG_VALUE_0"] = "https://nowhere.invalid"
  assert run().stdout == first.stdout
