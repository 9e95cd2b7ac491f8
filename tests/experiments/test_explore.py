"""The notebooks: their kept outputs are complete and clean, they use the public API alone, they run, and install on Colab."""

import ast
import functools
import inspect
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

import mnv3_jax as mnv3

sys.path.insert(0, str(ROOT / "experiments"))
import explore

KEPT = json.loads(explore.NOTEBOOK.read_text())
DETECT = json.loads(explore.NOTEBOOKS["detect"].read_text())
BOTH = pytest.mark.parametrize("name, kept", [("explore", KEPT), ("detect", DETECT)], ids=["explore", "detect"])

# limits of its run time and of its file size
# alone they take four minutes; other tests may run beside them
SECONDS, BYTES = 900, 1_000_000


def code(notebook):
  """Returns {id: cell} of the code cells, in their order."""
  return {cell["id"]: cell for cell in notebook["cells"] if cell["cell_type"] == "code"}


def source(cell):
  """Returns the source of a cell."""
  return "".join(cell["source"])


def text(cell):
  """Returns the text of a cell's outputs: printed text and Markdown."""
  parts = [o.get("text") or o["data"].get("text/markdown", "") for o in cell["outputs"]]
  return "".join("".join(part) for part in parts)


def pictures(cell):
  """Returns the PNGs of a cell's outputs."""
  return [o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {})]


def check_outputs(notebook):
  """Checks the content of a notebook's outputs, kept or fresh."""
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
  assert re.fullmatch(r"test image 0: T-shirt/top\n( +\d+\.\d%  [\w/ -]+\n){5}", text(cells["photo"]))
  assert re.search(r"differ by \d\.\d points", text(cells["tradeoff"]))


def check_detections(notebook):
  """Checks the content of the outputs of the notebook on detection, kept or fresh."""
  cells = code(notebook)
  assert "2,034 anchors\n1,765,974 parameters" in text(cells["network"])
  ap, ap50 = map(float, re.search(r"AP (0\.\d+), AP50 (0\.\d+) on 500 scenes", text(cells["train"])).groups())
  assert ap50 > ap > 0.1
  assert len(pictures(cells["predict"])) == 1
  assert re.match(r"\d\.\d\d MB, \d+\.\d\d ms, AP 0\.\d{3}\n", text(cells["export"]))


@BOTH
def test_kept_outputs_are_of_one_run_from_top_to_bottom(name, kept):
  cells = list(code(kept).values())
  assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
  for cell in cells:
    assert cell["outputs"], source(cell)
    for output in cell["outputs"]:
      assert output["output_type"] != "error" and output.get("name") != "stderr"
  {"explore": check_outputs, "detect": check_detections}[name](kept)


@BOTH
def test_kept_outputs_are_clean(name, kept):
  written = explore.NOTEBOOKS[name].read_text()
  assert len(written) < BYTES
  assert json.dumps(explore.cleaned(kept), indent=1, ensure_ascii=False) + "\n" == written
  words = "\n".join(source(cell) + text(cell) for cell in kept["cells"] if cell["cell_type"] == "code")
  assert not re.search(r"(?<![\w:/.])/(home|root|tmp|work|Users|usr|content|var)/|\x1b|\r|it/s|B/s", words)
  assert "0x" not in words
  # no HTML or other formats beside pictures and text
  kinds = {kind for cell in code(kept).values() for o in cell["outputs"] for kind in o.get("data", {})}
  assert {"image/png", "text/plain"} <= kinds <= {"image/png", "text/markdown", "text/plain"}


@BOTH
def test_it_opens_in_colab_from_one_repository(name, kept):
  badge = source(kept["cells"][0])
  same = [source(code(notebook)["install"]).replace("import sys\n", "") for notebook in (kept, KEPT)]
  assert same[0] == same[1]
  (repository,) = re.findall(r'^REPOSITORY = "([\w-]+/[\w-]+)"', source(code(kept)["install"]), re.M)
  assert f"(https://colab.research.google.com/github/{repository}/blob/main/experiments/{name}.ipynb)" in badge
  assert badge.startswith("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]")
  others = [source(cell).count(repository) for cell in kept["cells"]]
  assert sum(others) == 2


@BOTH
def test_it_imports_only_the_public_api(name, kept):
  """Checks for private modules, the command line, and processes other than git in the install cell."""
  imported = set()
  for identifier, cell in code(kept).items():
    for node in ast.walk(ast.parse(source(cell))):
      if isinstance(node, ast.Import):
        imported |= {(alias.name, alias.asname) for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        imported.add((node.module, None))
    assert source(cell).count("subprocess.") == (identifier == "install")
    assert not re.search(r"system\(|Popen|multiprocessing|^[!%]|import_module|__import__", source(cell), re.M)
  assert {pair for pair in imported if pair[0].startswith("mnv3_jax")} == {("mnv3_jax", "mnv3")}


@BOTH
def test_its_calls_fit_the_public_api(name, kept):
  used = set()
  for cell in code(kept).values():
    for node in ast.walk(ast.parse(source(cell))):
      if isinstance(node, ast.Attribute) and re.fullmatch(r"mnv3(\.\w+)+", ast.unparse(node)):
        used.add(ast.unparse(node))
      if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("mnv3."):
        function = functools.reduce(getattr, ast.unparse(node.func).split(".")[1:], mnv3)
        keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
        inspect.signature(function).bind(*node.args, **keywords)
  for called in used - {"mnv3.__file__"}:
    assert called.split(".")[1] in mnv3.__all__, called
    functools.reduce(getattr, called.split(".")[1:], mnv3)
  verbs = "cost create_model get_config train load predict export"
  verbs += " zoo benchmark build_table" if name == "explore" else ""
  assert {f"mnv3.{verb}" for verb in verbs.split()} <= used
  # those that the text alone names
  words = "\n".join(source(cell) for cell in kept["cells"] if cell["cell_type"] == "markdown")
  assert set(re.findall(r"mnv3\.(\w+)", words)) <= set(mnv3.__all__)


def test_its_settings_are_fields_of_the_config():
  cell = source(code(KEPT)["train"])
  names = {"EPOCHS": 3.0}
  for line in re.findall(r"^SHORT (?:\||)= .*$", cell, re.M):
    exec(line, names)
  config = mnv3.get_config("fashion_mnist", names["SHORT"])
  assert config.train.epochs == names["EPOCHS"] and config.optim.ema == 0.98


@pytest.mark.engines
@pytest.mark.nightly
def test_the_notebook_on_detection_runs_from_top_to_bottom(tmp_path):
  notebook = explore.source(explore.NOTEBOOKS["detect"])
  began = time.monotonic()
  explore.execute(notebook, tmp_path)
  assert time.monotonic() - began < SECONDS
  fresh = explore.cleaned(notebook)
  check_detections(fresh)
  assert not [o for cell in code(fresh).values() for o in cell["outputs"] if o.get("name") == "stderr"]
  assert (tmp_path / "detect" / "boxes.tflite").read_bytes()[4:8] == b"TFL3"


@pytest.mark.engines
def test_it_runs_from_top_to_bottom(tmp_path):
  notebook = explore.source()
  began = time.monotonic()
  explore.execute(notebook, tmp_path)
  seconds = time.monotonic() - began
  fresh = explore.cleaned(notebook)
  check_outputs(fresh)
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
  """Runs cells one after the other in a kernel: (source, on_output) -> the reply's status."""
  from jupyter_client.kernelspec import KernelSpecManager
  from jupyter_client.manager import KernelManager

  manager = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
  manager.start_kernel(cwd=str(tmp_path))
  client = manager.client()
  client.start_channels()
  client.wait_for_ready(timeout=60)

  def run(words, on_output=lambda message: None):
    return client.execute_interactive(words, timeout=SECONDS, output_hook=on_output)["content"]["status"]

  run.interrupt = manager.interrupt_kernel
  try:
    yield run
  finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
    manager.context.destroy()


@pytest.mark.engines
def test_an_interrupted_training_resumes(kernel, tmp_path):
  """Interrupts the cell while its curve grows, then runs it again."""
  cells = code(KEPT)
  for name in ("install", "network", "rows", "change"):
    assert kernel(source(cells[name])) == "ok"
  assert kernel("OUT = pathlib.Path('explore')\nfrom IPython.display import Markdown, display") == "ok"
  often = '"train.log_every": 2, "evaluate.every": 10.0, "checkpoint.every": 10.0, "data.eval_split": "test[:200]"'
  definitions, _ = source(cells["train"]).split("RUNS = ")
  # 780 steps: curves are drawn every two seconds, in which a compiled training makes a hundred
  definitions = definitions.replace("EPOCHS = 3.0", "EPOCHS = 5.0").replace(
    '"train.log_every": 13, "evaluate.every": 0.5', often
  )
  assert often in definitions
  assert kernel(definitions) == "ok"
  run = tmp_path / "explore" / "runs" / "small-seed=0"
  metrics = run / "metrics.jsonl"

  stopped, errors, drawn = [], [], []

  def stop(message):
    drawn.append(message["header"]["msg_type"] == "update_display_data")
    errors.extend([message["content"]["ename"]] if message["header"]["msg_type"] == "error" else [])
    # once: a second signal ends without a checkpoint
    if not stopped and metrics.is_file() and metrics.read_text().count("\n") >= 3:
      stopped.append(message)
      kernel.interrupt()

  training = "RUNS = train(('V3-Small', 0))"
  assert kernel(training, stop) == "error"
  assert errors == ["RetryableError"] and sum(drawn) > 1
  steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
  assert 6 <= steps[-1] < 780
  assert [path.name.isdigit() for path in (run / "checkpoints").iterdir()] and not (run / "result.json").exists()
  # the thread that draws has ended
  assert kernel("assert not [t for t in threading.enumerate() if 'redraw' in t.name]") == "ok"
  assert kernel(training) == "ok"
  assert "resuming after step" in pathlib.Path(f"{run}.log").read_text()
  assert json.loads((run / "result.json").read_text())["steps"] == 780


@pytest.mark.engines
def test_colab_keeps_the_jax_that_is_there(tmp_path):
  """Runs the install cell in an environment with an older jax and without the package, from a clone of this checkout."""
  python = tmp_path / "environment" / "bin" / "python"
  subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "environment")], check=True)
  there, newer = ("0.10.1", "0.10.2") if sys.version_info < (3, 12) else ("0.12.0", "0.12.0.1")
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
  # git fetches from the clone instead of GitHub
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
  assert first.stdout.splitlines() == ["mnv3_jax is installed", f"{there} {package} {numpy}"]
  # a restarted session finds the package without network access
  environment["GIT_CONFIG_VALUE_0"] = "https://nowhere.invalid"
  assert run().stdout == first.stdout
