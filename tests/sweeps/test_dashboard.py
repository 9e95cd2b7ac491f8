"""The progress display of a sweep and its estimate of the remaining time."""

import contextlib
import io
import os
import pty
import re
import sys
import time

import pytest

from mnv3_jax.sweeps import dashboard
from mnv3_jax.sweeps.trial import Trial, TrialFiles, TrialRecord


def trials(folder, hours=(None, None, None, None)):
  """Four trials, the first of which is done and took 100 s."""
  made = [
    Trial(name=f"net/seed_{i}", directory=folder, commands=((sys.executable,),), results=(folder / f"{i}.json",), hours=h)
    for i, h in enumerate(hours)
  ]
  (folder / "0.json").touch()
  TrialFiles(folder / "logs", "net/seed_0").write_record(TrialRecord("done", seconds=100.0))
  return made


def test_the_time_left_is_what_finished_trials_took(tmp_path, monkeypatch):
  monkeypatch.setattr(dashboard.time, "monotonic", lambda: 1000.0)
  logs = tmp_path / "logs"
  shown = dashboard.Dashboard(trials(tmp_path), logs, io.StringIO())
  assert shown.done_before == 1 and shown.remaining_seconds() == 300
  # 30 s of its 100 are over; and it is the only one at once
  shown.progress["net/seed_1"].state, shown.progress["net/seed_1"].started = "running", 970.0
  assert shown.remaining_seconds() == 270
  # of an earlier attempt, too
  shown.progress["net/seed_2"].state, shown.progress["net/seed_2"].seconds = "running", 60.0
  shown.progress["net/seed_2"].started = 1000.0
  assert shown.remaining_seconds() == pytest.approx((70 + 40 + 100) / 2)
  # one trial cannot be divided
  shown.progress["net/seed_3"].state = "failed"
  assert shown.remaining_seconds() == 70


def test_estimates_count_until_trials_have_finished_and_their_proportions_then(tmp_path):
  logs = tmp_path / "logs"
  made = trials(tmp_path, (0.1, 0.1, 0.2, 0.3))
  assert dashboard.Dashboard(made[1:], logs, io.StringIO()).remaining_seconds() == pytest.approx(3600 * 0.6)
  # 0.1 hours were 100 s in fact
  assert dashboard.Dashboard(made, logs, io.StringIO()).remaining_seconds() == pytest.approx(600)
  assert dashboard.Dashboard(trials(tmp_path)[1:], logs, io.StringIO()).remaining_seconds() is None


def test_without_a_terminal_each_change_is_a_line(tmp_path, monkeypatch):
  stream, now = io.StringIO(), [0.0]
  monkeypatch.setattr(dashboard.time, "monotonic", lambda: now[0])
  logs = tmp_path / "logs"
  with dashboard.Dashboard(trials(tmp_path), logs, stream) as shown:
    shown.update("net/seed_1", "started", state="running", started=time.monotonic())
    for _ in range(100):
      now[0] += 1
      shown.refresh()
    shown.update("net/seed_1", "failed: no luck", state="failed", message="no luck")
  first, started, still, failed = stream.getvalue().splitlines()
  assert first == "3 queued, 0 running, 1 done, 0 failed, about 5 min 00 s left"
  assert started == "net/seed_1: started  [2 queued, 1 running, 1 done, 0 failed, about 5 min 00 s left]"
  assert still.startswith("2 queued, 1 running, 1 done") and failed.startswith(
    "net/seed_1: failed: no luck  [2 queued, 0 running"
  )
  summary = "1 of 4 trials done (1 were before), 2 not yet\n1 failed:\n  net/seed_1: no luck\n"
  assert shown.summary() == summary + f"    {tmp_path}/logs/net/seed_1.log"


def test_on_a_terminal_running_trials_are_seen(tmp_path, monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  ours, theirs = pty.openpty()
  logs = tmp_path / "logs"
  with os.fdopen(theirs, "w") as stream:
    with dashboard.Dashboard(trials(tmp_path), logs, stream) as shown:
      shown.update("net/seed_1", "started", state="running", started=time.monotonic() - 65)
      shown.update("net/seed_2", "retry: killed by SIGKILL", failures=1)
      shown.update("net/seed_2", "started", state="running", started=time.monotonic())
    stream.flush()
  text = b""
  # reading what is left of a closed terminal ends with an error
  with contextlib.suppress(OSError):
    while more := os.read(ours, 1 << 16):
      text += more
  os.close(ours)
  plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode())
  assert "1 queued  2 running  1 done  0 failed" in plain and "left" in plain
  assert re.search(r"net/seed_1 +1 min 0[5-9] s", plain) and "net/seed_2: retry: killed by SIGKILL" in plain
  assert re.search(r"net/seed_2 +0 s +1 failed attempt", plain)
