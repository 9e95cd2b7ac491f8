"""Memory: its end is a sentence, and it does not grow."""

import gc
import os
import subprocess
import sys

import psutil
import pytest
from conftest import ROOT
from untrained import untrained

import mnv3_jax
from mnv3_jax.__main__ import end

OUT_OF_MEMORY = """
import sys
from mnv3_jax.__main__ import end
from mnv3_jax.errors import first_line
import numpy as np
def work():
  {work}
end(work)
"""


@pytest.mark.parametrize(
  ("work", "said"),
  [
    ("return len(bytes(2**50))", "out of memory: MemoryError"),
    ("return len(np.zeros(2**50))", "out of memory: Unable to allocate 8.00 PiB"),
    (
      "raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\\\\nmore')",
      "out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.",
    ),
    ('raise RuntimeError("can\'t start new thread")', "out of memory: can't start new thread"),
    ("raise OSError(12, 'Cannot allocate memory')", "out of memory: [Errno 12] Cannot allocate memory"),
  ],
)
def test_the_end_of_memory_is_a_sentence(work, said):
  program = OUT_OF_MEMORY.format(work=work)
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=50)
  assert done.returncode == 1 and done.stderr.startswith(f"mnv3: {said}") and done.stderr.count("\n") == 1, done.stderr


def test_a_full_disk_is_not_taken_for_the_end_of_memory(capsys):
  """XLA's error has RESOURCE_EXHAUSTED for either."""

  def work():
    raise RuntimeError("RESOURCE_EXHAUSTED: /runs/a; No space left on device")

  with pytest.raises(SystemExit) as left:
    end(work)
  said = "mnv3: the disk is full: RESOURCE_EXHAUSTED: /runs/a; No space left on device\n"
  assert left.value.code == 1 and capsys.readouterr().err == said


def test_other_errors_are_not_taken_for_the_end_of_memory():
  def work():
    raise RuntimeError("INTERNAL: a bug")

  with pytest.raises(RuntimeError, match="a bug"):
    end(work)


@pytest.mark.slow
def test_a_training_without_memory_has_no_traceback(tmp_path):
  """Libraries that abort the process where they get no memory say their own: Python cannot."""
  words = ["train", "--config", "configs/fashion_mnist.py", "--config.data.fake=True", "--config.train.steps=2"]
  for gigabytes in (1.2, 1.6, 2.0):
    # no preexec_fn: a fork of this process would warn of jax's threads
    limited = ["sh", "-c", f'ulimit -v {int(gigabytes * 1e6)}; exec "$@"', "sh"]
    done = subprocess.run(
      [*limited, sys.executable, "-m", "mnv3_jax", *words, "--workdir", str(tmp_path / str(gigabytes))],
      capture_output=True,
      text=True,
      cwd=ROOT,
      timeout=200,
      env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    # XLA, where its threads get no memory, aborts the process or, rarely, goes on with numbers that mean nothing
    said = ("mnv3: out of memory", "OpenBLAS error", "mnv3: the loss is not finite")
    assert done.returncode != 1 or any(words in done.stderr for words in said), done.stderr


@pytest.mark.nightly
@pytest.mark.slow
def test_evaluations_in_one_process_leave_nothing_behind(tmp_path):
  """Neither objects, threads nor files.

  The heap grows by fragments, and by 257 bytes for each of the 200 calls of TensorStore's Spec.to_json with which Orbax reads a
  checkpoint (TensorStore 0.1.86 never frees what it returns): 70 MB over 1,000 evaluations that load anew.
  """
  run, process = untrained(tmp_path / "run", resolution=32, width=0.35), psutil.Process()
  seen = []
  for i in range(31):
    mnv3_jax.evaluate(run)
    if i in (5, 30):
      gc.collect()
      seen.append((len(gc.get_objects()), process.num_threads(), process.num_fds(), process.memory_info().rss))
  (objects, threads, files, heap), after = seen
  assert after[0] < 1.01 * objects and after[1] <= threads + 8 and after[2] <= files + 2 and after[3] < heap + 150e6, seen
