"""What is refused before a sweep starts: options of sbatch, paths, engines that are not there."""

import importlib.util
import io
import re
import shutil
import subprocess

import pytest
from conftest import ended
from tiny import trial

from mnv3_jax.errors import UsageError
from mnv3_jax.sweeps import launch, slurm


@pytest.mark.parametrize(
  ("options", "sentence"),
  [
    ("--time=1\n#SBATCH --partition=gpu", "expected printable characters on one line"),
    ("--time=1\rrm", "expected printable characters on one line"),
    ("--comment=\x1b[31m", "expected printable characters on one line"),
    ("--comment='a", "no closing quotation"),
    ("evil.sh", "expected options, such as --gres=gpu:1, 'evil.sh' is none"),
    ("--time=1 -- evil.sh", "-- is set by the sweep itself"),
    ("--wrap=ls", "--wrap is set by the sweep itself"),
    ("--job-name=x", "--job-name is set by the sweep itself"),
    ("-a 1-3", "-a is set by the sweep itself"),
    ("-J x", "-J is set by the sweep itself"),
    ("--test-only", "--test-only is set by the sweep itself"),
  ],
)
def test_options_of_sbatch_that_cannot_be(options, sentence, tmp_path):
  with pytest.raises(UsageError, match=re.escape(sentence)):
    launch.run_trials("slurm", [trial(tmp_path, "one")], logs=tmp_path / "logs", sbatch=options, stream=io.StringIO())
  assert not (tmp_path / "logs").exists()


def test_options_of_sbatch_are_words_of_a_shell():
  assert launch.sbatch_words("--gres=gpu:1 -p 'a b' --mem 4G") == ["--gres=gpu:1", "-p", "a b", "--mem", "4G"]
  assert launch.sbatch_words("") == []


@pytest.mark.parametrize("name", ["a\nrm -rf x", "a\\b", "a\x1b[31m"])
def test_paths_that_slurm_would_not_take_as_they_are(name, tmp_path, monkeypatch):
  monkeypatch.setattr(launch, "missing_program", lambda engine: "")
  with pytest.raises(UsageError, match="for SLURM; expected printable characters"):
    launch.run_trials("slurm", [trial(tmp_path, "one")], logs=tmp_path / name, stream=io.StringIO())


def test_other_paths_are_words_of_the_command_line(tmp_path, monkeypatch):
  """Quotes, spaces, dollars and per cent signs: SLURM and the shell get them as they are."""
  folder = tmp_path / 'it\'s a "folder" $HOME 100%'
  folder.mkdir()
  calls = []

  def sbatch(words, **_):
    calls.append(words)
    return subprocess.CompletedProcess(words, 0, "7\n", "")

  monkeypatch.setattr(slurm.subprocess, "run", sbatch)
  assert slurm.submit(folder, {"files": []}, ["one"], ["--array=0-0"], ["--mem=1G"]) == "7"
  (words,) = calls
  assert f"--output={str(folder).replace('%', '%%')}/%A_%a.log" in words and words[-2] == "--mem=1G"
  # the script runs the plan of this folder, whatever its name has
  script = text_of(words[-1]).replace("exec ", "printf '%s\\n' ")
  monkeypatch.undo()
  shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
  assert shown[-1] == words[-1].removesuffix(".sh") + ".json"


def text_of(path):
  """Content of a text file."""
  with open(path, encoding="utf-8") as f:
    return f.read()


@pytest.mark.parametrize(
  ("engine", "sentence"), [("ray", "--engine='ray' needs Ray: pip install"), ("slurm", "--engine='slurm' needs sbatch")]
)
def test_a_plan_says_what_is_missing(engine, sentence, tmp_path, monkeypatch):
  find, which = importlib.util.find_spec, shutil.which
  monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
  monkeypatch.setattr(shutil, "which", lambda name, *more: None if name == "sbatch" else which(name, *more))
  words = ("sweep", "table5", "--scale", "mini", "--seeds", 1, "--runs", tmp_path / "runs", "--engine", engine)
  status, out, err = ended(*words, "--dry_run")
  assert (status, err) == (0, "") and f"it cannot start here: {sentence}" in out
  status, out, err = ended(*words)
  assert status == 2 and sentence in err and not (tmp_path / "runs").exists(), out + err
