"""Training on image files: resumed, with unreadable images, with changed images; traces, pictures and messages of a run."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time

import photographs
import pytest
from conftest import ROOT, mnv3
from test_run import assert_equal_runs, in_a_process
from tiny_network import FEW_BLOCKS
from tiny_run import tiny_config, tiny_job

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.training.loop import train


@pytest.fixture
def photos(tmp_path):
  """Class folders of 40 and 12 images."""
  photographs.class_folders(tmp_path / "photos" / "train", 40)
  photographs.class_folders(tmp_path / "photos" / "test", 12, first=100)
  return tmp_path / "photos"


def changes(photos, **others):
  usual = {"data.dataset": "folder", "data.dir": str(photos), "data.augment": "inception", "data.classes": photographs.CLASSES}
  return {**usual, "data.train_split": "train", "data.eval_split": "test", "train.batch_size": 8, **others}


def run(workdir, photos, profile=False, **others):
  config = tiny_config(**changes(photos, **others))
  return train(config, workdir, tiny_job(config), profile=profile)


def words(photos, **others):
  return [f"--config.{name}={value!r}" for name, value in changes(photos, **others).items()]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_killed_run_ends_as_if_nothing_had_happened(photos, tmp_path):
  options = words(photos, **{"data.augment": "inception+randaugment+erase(0.5)"})
  for name, status, more in (("whole", 0, ()), ("run", -signal.SIGKILL, ("--kill", "8")), ("run", 0, ())):
    done = in_a_process(tmp_path / name, *options, *more)
    assert done.returncode == status, done.stderr
  assert "resuming after step" in done.stdout
  assert_equal_runs(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_broken_photo_is_left_out_named_and_counted(photos, tmp_path, capsys):
  broken = [photos / "train" / "cat" / "000.jpg", photos / "test" / "dog" / "100.jpg"]
  for file in broken:
    file.write_bytes(file.read_bytes()[:200])
  result = run(tmp_path / "run", photos)
  said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped: ")]
  assert sorted(said) == sorted(f"skipped: {sentence}" for sentence in result["broken"]) and len(said) == 2
  assert all(any(str(file) in line for line in said) for file in broken)
  assert result["metrics"]["test"]["raw"]["count"] == 11


@pytest.mark.slow
def test_too_many_broken_photos_stop_the_run_with_the_list(photos, tmp_path):
  for i in (0, 3, 6):
    (photos / "train" / "cat" / f"{i:03}.jpg").write_text("no photo")
  with pytest.raises(FatalError, match=r"3 images cannot be read, more than config\.data\.broken_limit=2: .*000\.jpg"):
    run(tmp_path / "run", photos, **{"data.broken_limit": 2})
  assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_other_photos_than_before_are_refused(photos, tmp_path):
  assert in_a_process(tmp_path / "run", *words(photos), "--kill", "8").returncode == -signal.SIGKILL
  (photos / "train" / "cat" / "one_more.jpg").write_bytes(photographs.jpeg(0))
  with pytest.raises(
    UsageError, match=r"not those that this run began with: 40 photos, \w+; tested .* then, 41 photos, \w+; tested .* now"
  ):
    run(tmp_path / "run", photos)
  (photos / "train" / "cat" / "one_more.jpg").unlink()
  assert run(tmp_path / "run", photos)["steps"] == 15


@pytest.mark.slow
def test_what_a_run_shows_of_itself(photos, tmp_path, capsys):
  from tensorboardX.proto import event_pb2

  run(tmp_path / "run", photos, profile=True, **{"train.epochs": 6.0})
  directory = RunDirectory(tmp_path / "run")
  speeds = [m["speed"] for m in directory.metrics() if m["split"] == "train"]
  assert all(0 <= s["waiting"] <= 1 and s["images_per_second"] > 0 for s in speeds)
  assert (tmp_path / "run" / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
  content = b"".join(p.read_bytes() for p in sorted((tmp_path / "run" / "tensorboard").iterdir()))
  tags, at = {}, 0
  while at < len(content):
    size = int.from_bytes(content[at : at + 8], "little")
    for value in event_pb2.Event.FromString(content[at + 12 : at + 12 + size]).summary.value:
      tags.setdefault(value.tag.split("/individual")[0], []).append(value)
    at += 16 + size
  assert {"speed/waiting", "speed/images_per_second", "train/images"} <= tags.keys()
  image = tags["train/images"][0].image
  assert image.encoded_image_string[:4] == b"\x89PNG"
  (trace,) = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
  assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
  assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
  out = capsys.readouterr().out
  assert "profile: " in out and "waiting for data" in out
  assert "rmsprop, learning rate 0.01" in out and "folder: 40 photos" in out


@pytest.mark.nightly
@pytest.mark.slow
def test_a_short_run_is_traced_too(tmp_path, capsys):
  config = tiny_config(**{"train.steps": 3})
  train(config, tmp_path / "run", tiny_job(config), profile=True)
  assert "profile: " in capsys.readouterr().out
  assert list((tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz"))


@pytest.mark.nightly
@pytest.mark.slow
def test_a_done_run_needs_no_photos(photos, tmp_path):
  words = ["--config", "configs/fashion_mnist.py", "--workdir", tmp_path / "run", "--config.data.dataset=folder"]
  words += [
    f"--config.data.dir={photos}",
    "--config.data.augment=none",
    "--config.train.batch_size=8",
    "--config.train.steps=1",
  ]
  words += [f"--config.model.blocks={FEW_BLOCKS}", "--config.model.resolution=16"]
  assert mnv3("train", *words, "--config.data.eval_split=tset").returncode == 2 and not (tmp_path / "run").exists()
  assert mnv3("train", *words).returncode == 0
  photos.rename(photos.with_name("elsewhere"))
  again = mnv3("train", *words)
  assert again.returncode == 0 and "is done" in again.stdout, again.stderr


@pytest.mark.nightly
@pytest.mark.slow
def test_killed_in_the_middle_of_saving(tmp_path):
  """SIGKILL from outside as soon as the directory has an incomplete checkpoint, five times."""
  assert in_a_process(tmp_path / "whole").returncode == 0
  command = [sys.executable, str(ROOT / "tests" / "training" / "tiny_run.py"), str(tmp_path / "run")]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
  hit = 0
  for nth in range(1, 6):
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
      killer = threading.Thread(target=kill_while_saving, args=(process, tmp_path / "run" / "checkpoints", nth % 3 + 1))
      killer.start()
      status = process.wait()
      killer.join()
    if status == 0:
      break
    hit += status == -signal.SIGKILL
  assert hit >= 2
  assert in_a_process(tmp_path / "run").returncode == 0
  assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def kill_while_saving(process, directory, nth):
  """Waits for the start of the nth save, and kills."""
  seen = set()
  while process.poll() is None:
    try:
      seen |= {entry.name for entry in os.scandir(directory) if not entry.name.isdigit()}
    except FileNotFoundError:
      pass
    if len(seen) >= nth:
      process.kill()
      return
    time.sleep(0.0005)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_data_verb_draws_and_times(photos, tmp_path):
  out = tmp_path / "sheet.png"
  config = ("--config", "configs/fashion_mnist.py")
  done = mnv3("data", *config, "--out", out, "--seconds", 1)
  assert done.returncode == 0 and "images/s" in done.stdout and out.read_bytes()[:4] == b"\x89PNG", done.stderr
  out.unlink()
  more = (f"--config.data.dir={photos}", "--config.data.augment=inception", "--config.train.batch_size=8")
  done = mnv3("data", "folder", *config, *more, "--out", out, "--seconds", 1)
  assert done.returncode == 0 and "folder: 3 classes, 40 photos" in done.stdout and out.exists(), done.stderr
  done = mnv3("data", "fashion", *config)
  assert done.returncode == 2 and "did you mean 'fashion_mnist'?" in done.stderr
  done = mnv3("data", *config, "--out", "sheet.jpg")
  assert done.returncode == 2 and "expected the name of a PNG file" in done.stderr
