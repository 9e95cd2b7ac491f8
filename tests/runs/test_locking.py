"""Files that several processes read, change and write."""

import json
import os
import subprocess
import sys

import pytest

from mnv3_jax.errors import FatalError, RetryableError
from mnv3_jax.export import record
from mnv3_jax.runs.atomic import read_json
from mnv3_jax.runs.locking import locked

COUNTER = """
import json, sys
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.locking import locked
for _ in range(100):
  with locked(sys.argv[1]):
    write_atomically(sys.argv[1], json.dumps({"count": read_json(sys.argv[1])["count"] + 1}))
"""

RECORDER = """
import sys
from mnv3_jax.export import record
for i in range(20):
  record.add_latency(sys.argv[1], b"tflite", {"device": sys.argv[2], "threads": i}, {"median_ms": 1.0})
"""


def together(program, *arguments):
  """Runs a program once for each tuple of arguments, all at once."""
  processes = [subprocess.Popen([sys.executable, "-c", program, *map(str, words)]) for words in arguments]
  assert [process.wait(timeout=100) for process in processes] == [0] * len(arguments)


def test_no_change_of_another_process_is_lost(tmp_path):
  path = tmp_path / "a.json"
  path.write_text('{"count": 0}')
  together(COUNTER, (path,), (path,), (path,))
  assert read_json(path) == {"count": 300} and os.listdir(tmp_path) == ["a.json"]


def test_two_processes_add_latencies_to_one_record(tmp_path):
  file = tmp_path / "m.tflite"
  file.write_bytes(b"tflite")
  record.write(file, {"file": "m.tflite", "kind": "int8"})
  together(RECORDER, (file, "a"), (file, "b"))
  found = record.read(file)
  assert len(found["latencies"]) == 40 and found["kind"] == "int8"
  assert sorted(os.listdir(tmp_path)) == ["m.tflite", "m.tflite.json"]


def test_nothing_is_recorded_about_a_file_that_was_replaced(tmp_path):
  file = tmp_path / "m.tflite"
  file.write_bytes(b"another")
  for call in (record.add_latency, record.write_with_file):
    with pytest.raises(FatalError, match="was replaced by another process while it was measured"):
      call(file, b"tflite", *([{}, {}] if call is record.add_latency else [{}]))
  assert os.listdir(tmp_path) == ["m.tflite"]


def test_the_wait_for_a_process_that_does_not_go_on_has_an_end(tmp_path):
  with locked(tmp_path / "a.json"), pytest.raises(RetryableError, match=r"a\.json"), locked(tmp_path / "a.json", patience=0.1):
    pass
  # a lock file that a killed process has left
  (tmp_path / ".a.json.lock").touch()
  with locked(tmp_path / "a.json"):
    assert json.dumps({})
  assert os.listdir(tmp_path) == []
