"""Run directories whose files are damaged: every verb ends in a sentence, or goes on without what is lost."""

import json
import os
import shutil

import pytest
from conftest import NIGHTLY, SHORT, SMALL, ended, tiny_architecture
from untrained import untrained

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.runs.run import Run


def half(file):
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
  file.write_bytes(b"")


def garbage(file):
  file.write_bytes(bytes(range(256)) * (1 + file.stat().st_size // 256))


def directory(file):
  file.unlink()
  file.mkdir()


def gone(file):
  file.unlink()


def pipe(file):
  file.unlink()
  os.mkfifo(file)


def link(file):
  file.unlink()
  file.symlink_to(file.name)


def of_another_shape(file):
  file.write_text('{"metrics": null, "model": {"name": []}, "data": 3}\n')


DAMAGES = (half, empty, garbage, directory, gone, pipe, link, of_another_shape)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name",
  ["config.json", "result.json", *(pytest.param(name, marks=NIGHTLY) for name in ("metrics.jsonl", "learning_curve.png"))],
)
def test_every_damage_ends_in_a_sentence(name, run, tmp_path):
  copy = tmp_path / "run"
  verbs = (
    ("train", *SMALL, *SHORT, "--workdir", copy),
    ("evaluate", "--workdir", copy),
    ("report", "--workdir", copy, "--tflite", tmp_path / "a.tflite", "--out", tmp_path / "report"),
  )
  assert ended("export", "--workdir", run, "--out", tmp_path / "a.tflite", "--examples", 10)[0] == 0
  for damage in DAMAGES:
    for words in verbs:
      shutil.rmtree(copy, ignore_errors=True)
      shutil.copytree(run, copy)
      damage(copy / name)
      status, out, err = ended(*words)
      assert status in (0, 1, 2) and err.count("\n") <= 3, (name, damage.__name__, words[0], out, err)


@pytest.mark.parametrize(
  "result",
  [
    {"model": "mobilenetv3_small"},
    {"metrics": None},
    {"metrics": {"test": 3}},
    {"metrics": {"test": {"raw": {"top1": "much"}}}},
    {"metrics": {}, "seconds": "long"},
    {"metrics": {}, "params": "<script>"},
    {"metrics": {}, "versions": [1]},
  ],
)
def test_a_result_of_another_shape_is_damaged(result, tmp_path):
  (tmp_path / "result.json").write_text(json.dumps(result))
  with pytest.raises(UsageError, match=r"result\.json' is damaged: .*; deleted, training writes it again"):
    RunDirectory(tmp_path).result()
  assert repr(Run(tmp_path)).endswith("damaged)")


@pytest.mark.parametrize("section", ["model", "data", "train", "evaluate"])
def test_a_section_that_is_none_is_damaged(section, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({section: 3}))
  with pytest.raises(UsageError, match=rf"config\.json' is damaged: {section} is not a section"):
    RunDirectory(tmp_path).config()


def test_a_huge_log_is_not_read(tmp_path):
  with (tmp_path / "metrics.jsonl").open("wb") as f:
    f.truncate(20 * 2**30)
  with pytest.raises(UsageError, match=r"metrics\.jsonl' cannot be read: it has 21,474,836,480 bytes"):
    RunDirectory(tmp_path).metrics()


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("predict", "--workdir", "RUN", "huge.jpg"), "huge.jpg' cannot be read: it has 10,737,418,240 bytes, more than"),
    (("benchmark", "huge.tflite"), "huge.tflite' cannot be read: it has 10,737,418,240 bytes, more than"),
    (
      ("import", "--from", "timm", "--model", "mobilenetv3_small_050", "a.npz", "--out", "OUT", "--classes", "huge.txt"),
      "huge.txt' cannot be read: it has 10,737,418,240 bytes, more than",
    ),
  ],
)
def test_huge_files_are_not_read(words, sentence, tmp_path):
  for name, head in (("huge.jpg", b"\xff\xd8\xff\xe0"), ("huge.tflite", b"\x1c\0\0\0TFL3"), ("huge.txt", b"a\n")):
    with (tmp_path / name).open("wb") as f:
      f.write(head)
      f.truncate(10 * 2**30)
  if "RUN" in words:
    untrained(tmp_path / "RUN", resolution=32, width=0.35)
  status, _, err = ended(*(tmp_path / word if "." in word or word in ("RUN", "OUT") else word for word in words))
  assert status == 2 and sentence in err and err.count("\n") == 1, err


@pytest.mark.slow
def test_only_a_replacement_makes_a_record_outdated(tmp_path, monkeypatch):
  """On a full disk, both the old .tflite file and its record stay."""
  from mnv3_jax.export import record, tflite
  from mnv3_jax.export.random_weights import random_weights

  a = tiny_architecture()
  variables, images = random_weights(a)
  file = tmp_path / "a.tflite"
  file.write_bytes(b"old")
  record.write(file, {"kind": "int8"})

  def full(descriptor):
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.tflite"):
      tflite.write_tflite(a, variables, file, images)
  assert file.read_bytes() == b"old" and record.read(file)["kind"] == "int8"
  tflite.write_tflite(a, variables, file, images)
  assert file.read_bytes() != b"old" and not record.path_of(file).exists()
