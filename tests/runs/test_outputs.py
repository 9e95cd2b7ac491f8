"""Paths to write to, and suffixes that say another format."""

import pytest

from mnv3_jax.errors import UsageError
from mnv3_jax.runs import outputs


@pytest.mark.parametrize("name", ["a.tflite", "a.TFLITE", "a", "large_0.75", "v1.0/a.tflite"])
def test_names_of_a_file(name, tmp_path):
  outputs.check_file("file", tmp_path / name, ".tflite")


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite.png", "a.h5", "a.keras", "a.mlmodel"])
def test_another_format_is_named(name):
  with pytest.raises(UsageError, match=rf"invalid file='{name}'; expected the name of a \.tflite file"):
    outputs.check_file("file", name, ".tflite")


@pytest.mark.parametrize("name", ["report", "runs.old", "large_v1.0", "width_0.75"])
def test_names_of_a_directory(name, tmp_path):
  outputs.check_directory("out", tmp_path / name)


@pytest.mark.parametrize("name", ["report.html", "mask.PNG", "a.tflite", "net.onnx"])
def test_a_directory_has_no_name_of_a_file(name, tmp_path):
  with pytest.raises(UsageError, match="expected the name of a directory"):
    outputs.check_directory("out", tmp_path / name)
  # one that stands there is a directory, whatever it is called
  (tmp_path / name).mkdir()
  outputs.check_directory("out", tmp_path / name)


def test_a_file_is_no_directory(tmp_path):
  (tmp_path / "out").touch()
  with pytest.raises(UsageError, match="it is a file"):
    outputs.check_directory("out", tmp_path / "out")
  with pytest.raises(UsageError, match="it is a directory"):
    outputs.check_file("file", tmp_path, ".json")
