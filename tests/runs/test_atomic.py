"""Files that are written whole or not at all, and read with a check."""

import subprocess
import sys

import pytest
from conftest import ROOT

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import read_json, write_atomically

WRITER = """
import json, sys
from mnv3_jax.runs.atomic import write_atomically
for i in range(200):
  write_atomically(sys.argv[1], json.dumps({"writer": sys.argv[2], "i": i, "filler": "x" * 5000}))
"""


@pytest.mark.slow
def test_writers_do_not_meet(tmp_path):
  """Two processes write the same file: none fails, every reader sees a whole file, and no draft is left."""
  path = tmp_path / "a.json"
  write_atomically(path, "{}")
  writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)]) for i in range(2)]
  while any(writer.poll() is None for writer in writers):
    read_json(path)
  assert [writer.returncode for writer in writers] == [0, 0]
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
  ("content", "sentence"),
  [
    (b"\xff\xfe{}", "damaged"),
    (b"[1]", "expected a JSON object"),
    (b"[" * 100_000, "nested too deep"),
    (b'{"a": ' * 100_000, "nested too deep"),
    (b'{"a": ' + b"9" * 400 + b"}", "a number of 400 digits"),
    (b"", "damaged"),
  ],
)
def test_what_is_no_file_of_ours_is_named(content, sentence, tmp_path):
  file = tmp_path / "a.json"
  file.write_bytes(content)
  with pytest.raises(UsageError, match=sentence):
    read_json(file)


def test_a_huge_file_is_not_read(tmp_path):
  file = tmp_path / "a.json"
  with file.open("wb") as f:
    f.truncate(10 * 2**30)
  with pytest.raises(UsageError, match="10,737,418,240 bytes"):
    read_json(file)


def test_a_file_for_which_there_is_no_room_is_named_and_stays(tmp_path):
  file = tmp_path / "a.json"
  file.write_text("{}")
  code = f"from mnv3_jax.runs.atomic import write_atomically; write_atomically({str(file)!r}, 10**6 * '1')"
  # of 512 bytes each: where the limit is reached, the error has no name of its own
  limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh"]
  done = subprocess.run([*limited, sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 1 and f"File too large: {str(file)!r}" in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and file.read_text() == "{}"
