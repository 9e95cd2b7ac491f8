"""Progress: a bar on a terminal, plain lines elsewhere."""

import contextlib
import io
import os
import pty
import re

import pytest

from mnv3_jax.runs import progress


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")])
def test_durations(seconds, text):
  assert progress.duration(seconds) == text


def go(bar):
  with bar:
    bar.update(10, 2.5, 640)
    bar.advance(15)
    bar.update(20, 1.25, 640, 0.25)
    bar.say("epoch 1: [good]")


def test_plain_lines_where_there_is_no_terminal():
  stream = io.StringIO()
  go(progress.Bar(100, stream=stream))
  compiling, first, step, epoch = stream.getvalue().splitlines()
  assert (compiling, first) == ("compiling ...", "step 10/100  loss 2.500")
  assert epoch == "epoch 1: [good]"
  assert re.fullmatch(r"step 20/100  loss 1\.250  [\d,]+ images/s, 25% waiting for data  \d+ s left", step)


def said(terminal):
  """All that was written to a terminal whose other end is closed; one read gives no more than a page of it."""
  shown = b""
  # reading what is left of a closed terminal ends with an error
  with contextlib.suppress(OSError):
    while more := os.read(terminal, 1 << 16):
      shown += more
  os.close(terminal)
  return shown.decode()


def test_a_bar_on_a_terminal(monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  ours, theirs = pty.openpty()
  with os.fdopen(theirs, "w") as stream:
    go(progress.Bar(100, stream=stream))
    stream.flush()
  shown = said(ours)
  assert "20/100" in shown and "loss 1.250" in shown and "images/s" in shown and "left" in shown
  assert "epoch 1: [good]" in shown


def test_a_counter_says_now_and_then_where_there_is_no_terminal(monkeypatch):
  stream, now = io.StringIO(), [0.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  with progress.Counter("invocations", stream) as heard:
    for done in range(1, 6):
      now[0] += 4
      heard(done, 5)
  assert stream.getvalue() == "3 of 5 invocations\n"


def test_a_counter_is_a_bar_on_a_terminal(monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  ours, theirs = pty.openpty()
  with os.fdopen(theirs, "w") as stream, progress.Counter("invocations", stream) as heard:
    heard(3, 5)
    heard(5, 5)
  text = said(ours)
  assert "invocations" in text and "5/5" in text
