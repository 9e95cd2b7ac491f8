"""Files of a run on a device without space: errors name the file, and closing hides no earlier error."""

import pytest

from mnv3_jax.runs.directory import RunDirectory

RECORD = {"step": 1, "epoch": 1.0, "split": "train", "weights": "raw", "values": {"loss": 1.0}, "seconds": 1.0}


def test_a_record_without_room_names_its_file(tmp_path):
  directory = RunDirectory(tmp_path)
  directory.cut(0)
  assert directory._metrics
  directory._metrics.close()
  directory._metrics = open("/dev/full", "a", encoding="utf-8")
  with pytest.raises(OSError, match="No space left") as caught:
    directory.append(RECORD)
  assert caught.value.filename == str(tmp_path / "metrics.jsonl")
  directory.close()
  assert directory._metrics is None and directory._lock is None
