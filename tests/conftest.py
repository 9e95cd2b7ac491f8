"""What all tests share: caches of what is compiled, for all processes of a session, and the command line."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
CACHE = ROOT / ".pytest_cache" / "compiled"
# Modules too: below an import hook, Python finds no bytecode of installed packages, and takes 7 s to compile them.
BYTECODE = ROOT / ".pytest_cache" / "bytecode"
sys.dont_write_bytecode, sys.pycache_prefix = False, str(BYTECODE)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
# before jax is imported, and for the processes that tests start
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_PLATFORMS"] = "cpu"

import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# packages whose annotations are checked wherever the tests call them: shapes and dtypes by jaxtyping, the rest by beartype;
# before any of them is imported
CHECKED = (
  "mnv3_jax.boxes",
  "mnv3_jax.models",
  "mnv3_jax.tasks",
  "mnv3_jax.data.transforms",
  "mnv3_jax.training.step",
  "mnv3_jax.export",
)
install_import_hook(CHECKED, "beartype.beartype")

from tiny_network import FEW_BLOCKS, tiny_architecture  # noqa: E402

# marks of a parameter that .ci/run has no time for
NIGHTLY = (pytest.mark.slow, pytest.mark.nightly)


@pytest.fixture
def neighbour():
  """Other processes that are always busy: one on the one core that this process and what it starts may use meanwhile.

  Where processes cannot be held on a core (macOS) there are three for each core.
  """
  held = hasattr(os, "sched_setaffinity")
  if held:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
  busy = [sys.executable, "-IS", "-c", "while True: pass"]
  others = [subprocess.Popen(busy) for _ in range(1 if held else 3 * os.cpu_count())]
  try:
    yield
  finally:
    for other in others:
      other.kill()
      other.wait()
    if held:
      os.sched_setaffinity(0, mine)


@pytest.fixture
def tiny():
  """The small network of this test suite."""
  return tiny_architecture()


# what commands say on a slow machine every ten seconds, and on a busy one of a file's latency
PROGRESS = re.compile(r"^\d+ of \d+ [a-zA-Z]+\n", re.M)
SLOWER = re.compile(r"^mnv3: .* is slower than the float file here .*\n", re.M)


def mnv3(*words, env=None, timeout=300):
  """Runs the command line in a process of its own, warnings being errors; its standard error is without PROGRESS."""
  done = subprocess.run(
    [sys.executable, "-W", "error", "-m", "mnv3_jax", *map(str, words)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=timeout,
    env={**os.environ, **(env or {})},
  )
  done.stderr = PROGRESS.sub("", done.stderr)
  return done


def ok(*words):
  """Standard output of a command that ends well and says nothing on standard error."""
  done = mnv3(*words)
  assert (done.returncode, SLOWER.sub("", done.stderr)) == (0, ""), done.stderr
  return done.stdout


def ended(*words):
  """(status, standard output, standard error) of a command in this process: what needs no process of its own is soon done."""
  import contextlib
  import io

  from mnv3_jax.__main__ import end, run

  out, err = io.StringIO(), io.StringIO()
  with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    with pytest.raises(SystemExit) as left:
      end(lambda: run([str(word) for word in words]))
  return left.value.code, out.getvalue(), PROGRESS.sub("", err.getvalue())


SMALL = (
  *("--config", "configs/fashion_mnist.py", f"--config.model.blocks={FEW_BLOCKS}"),
  *("--config.data.train_split=train[:640]", "--config.data.eval_split=test[:200]"),
)
SHORT = ("--config.train.epochs=1.0", "--config.train.batch_size=64")


@pytest.fixture(scope="session")
def run(tmp_path_factory):
  """A short run of a few blocks by the real command; `make demo`, which a test runs too, is one of the whole network."""
  workdir = tmp_path_factory.mktemp("commands") / "run"
  done = mnv3("train", *SMALL, *SHORT, "--workdir", workdir)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  assert "653,994 parameters" in done.stdout and "done in" in done.stdout
  return workdir


def pytest_runtest_logreport(report):
  """Prints a failure when it happens: the summary of a session that is stopped says nothing."""
  if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
    print(f"\n{report.nodeid} failed in its {report.when}\n{report.longreprtext}", file=sys.__stdout__, flush=True)
