"""Progress of a search: a bar on a terminal, nothing elsewhere, and lines of the steps that other processes finish."""

import io
import json
import time

from mnv3_jax.search import progress
from mnv3_jax.search.directory import SearchDirectory
from mnv3_jax.search.progress import StepBar, StepStatus, following

STATUS = StepStatus(step=3, done=4, total=9, latency_ms=2.5, target_ms=2.0)


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_bar_on_a_terminal(monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  terminal = Terminal()
  with StepBar(terminal) as bar:
    bar(STATUS)
    bar.rich.refresh()
    # lines of the search are printed above it
    print("step 2: done")
  shown = terminal.getvalue()
  assert "step 3 from 2.5 ms (target 2), proposals" in shown and "4/9" in shown and "step 2: done" in shown


def test_no_bar_elsewhere():
  stream = io.StringIO()
  with StepBar(stream) as bar:
    bar(STATUS)
  assert stream.getvalue() == ""


def test_steps_of_other_processes(tmp_path, monkeypatch):
  monkeypatch.setattr(progress, "FOLLOW_INTERVAL", 0.01)
  directory, lines = SearchDirectory(tmp_path), []
  record = {"winner": "block_02_out_8", "latency_ms": 2.5, "top1": 0.5, "control": 0.6, "proposals": {"a": {}}, "seconds": 1}
  timing = {"network_ms": 1.2, "seed_ms": 2.0, "ratio": 0.6, "predicted_ratio": 0.5, "drift": 1.2}

  def finish(number):
    directory.step(number).path.mkdir(parents=True)
    (directory.step(number).path / "step.json").write_text(json.dumps({"step": number, **record}))

  finish(1)
  with following(directory, "top1", 2.0, lines.append):
    finish(2)
    deadline = time.monotonic() + 60
    while not lines:
      assert time.monotonic() < deadline
      time.sleep(0.01)
    directory.step(2).write_timing({"step": 2, **timing})
    finish(3)
  # the first step was there before
  assert lines == [
    "step 2: block_02_out_8, 2.5 ms (2), top1 0.5000 (control 0.6000), best of 1 in 1 s",
    "timed after step 2: 1.2 ms, 0.600 of the seed's 2 ms; predicted 0.500, drift +20.0%",
    "step 3: block_02_out_8, 2.5 ms (2), top1 0.5000 (control 0.6000), best of 1 in 1 s",
  ]
