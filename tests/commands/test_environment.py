"""Homes, locales, terminals and streams other than usual ones."""

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT, mnv3
from tiny_network import FEW_BLOCKS
from untrained import untrained

import mnv3_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import cache_directory, expanded
from mnv3_jax.runs.run import Run

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
FAKE = (
  "--config.data.fake=True",
  "--config.train.steps=1",
  "--config.train.batch_size=8",
  "--config.data.eval_split=test[:50]",
  f"--config.model.blocks={FEW_BLOCKS}",
)


@pytest.fixture
def home(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  (tmp_path / "home").mkdir()
  return tmp_path / "home"


@pytest.mark.slow
def test_a_tilde_is_the_home_directory(home, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  assert expanded("~/x") == str(home / "x") and expanded("x~/~") == "x~/~" and expanded(pathlib.Path("~")) == str(home)
  untrained(home / "run")
  assert mnv3_jax.load("~/run").workdir == "~/run" and Run("~/run").workdir == home / "run"
  config = mnv3_jax.get_config("fashion_mnist", data_dir="~/photos", train_init="~/run")
  assert (config.data.dir, config.train.init) == (str(home / "photos"), str(home / "run"))
  done = mnv3("export", "--workdir=~/run", "--out=~/a.tflite", env={"HOME": str(home)})
  assert done.returncode == 0 and (home / "a.tflite").is_file(), done.stderr
  assert not (ROOT / "~").exists()
  for path in ("~nobody_of_this_name/x", "~nobody_of_this_name/x/y"):
    with pytest.raises(UsageError, match="there is no user 'nobody_of_this_name'"):
      expanded(path)
  # names of files
  (tmp_path / "~b").mkdir()
  assert expanded("~b/c") == "~b/c" and expanded("~backup.png") == "~backup.png"


def test_no_home(monkeypatch, tmp_path):
  monkeypatch.delenv("HOME", raising=False)
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
  assert cache_directory() is None
  with pytest.raises(UsageError, match="HOME is not set"):
    expanded("~/x")
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  assert cache_directory() is None


@pytest.mark.slow
def test_an_ascii_terminal(tmp_path):
  words = ("--config", "fashion_mnist:mobilenetv3_small", "--workdir", tmp_path / "run", *FAKE)
  done = mnv3("train", *words, env=ASCII)
  assert done.returncode == 0 and "\n1 x cpu: 8 images per step" in done.stdout, done.stderr
  done = mnv3("summary", "mobilenetv3_small", env=ASCII)
  assert done.returncode == 0 and done.stdout.isascii() and "224" in done.stdout


@pytest.mark.slow
def test_a_run_directory_that_checkpoints_cannot_be_in(tmp_path):
  done = mnv3("train", "--config", "fashion_mnist", "--workdir", tmp_path / os.fsdecode(b"caf\xe9"))
  assert done.returncode == 2 and "expected a name in UTF-8" in done.stderr and not os.listdir(tmp_path)


def test_closed_and_full_streams(tmp_path):
  python = f"{sys.executable} -W error -m mnv3_jax"
  for command, status in (
    ("summary mobilenetv3_small >&-", 0),
    ("summary mobilenetv3_small <&- 2>&-", 0),
    ("summary nothing >&- 2>&-", 2),
    ("summary mobilenetv3_small > /dev/full", 1),
    ("summary --all | head -n 0; exit ${PIPESTATUS[0]}", 141),
  ):
    done = subprocess.run(["bash", "-c", f"{python} {command}"], capture_output=True, text=True, cwd=ROOT, timeout=100)
    # a short table may be in the pipe before it is closed
    assert done.returncode in (status, 0 if status == 141 else status), (command, done.stderr)
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1
