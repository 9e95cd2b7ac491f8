"""Distillation: the loss, what the teacher sees, runs with a teacher, and teachers that cannot teach."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import optax
import pytest
from tiny_network import FEW_BLOCKS
from tiny_run import Killer, last_state, tiny_config, tiny_job
from tiny_seed import MODEL

from mnv3_jax.config import base, check
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.models.initialize import initialize
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.segmentation import Segmentation
from mnv3_jax.training import parallel, state as states, trained
from mnv3_jax.training.distillation import load_teacher
from mnv3_jax.training.loop import train
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.step import gradient_of, train_step

SMALL = {"model.name": "mobilenetv3_small", **{f"model.{name}": value for name, value in MODEL.items()}}
TEACHER = {**SMALL, "model.width": 1.5}


def student_config(teacher, **changes):
  """Returns the config of a narrow network that learns from a teacher."""
  return tiny_config(
    **{
      "model.name": "mobilenetv3_small",
      "model.blocks": FEW_BLOCKS,
      "model.resolution": 16,
      "distill.teacher": str(teacher),
      **changes,
    }
  )


def imported(out, classes=(), seed=5, **changes):
  """Writes random weights as a directory of imported ones."""
  config = base()
  config.update_from_flattened_dict({**TEACHER, "optim.name": "none", "optim.ema": 0.0, **changes})
  config.data.classes = classes
  job = jobs.from_config(config)
  trained.save(out, config, initialize(job.model, seed), {"model": config.model.name})
  return out


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  """Random weights whose images are normalized as torchvision's."""
  view = {"data.mean": (0.485, 0.456, 0.406), "data.std": (0.229, 0.224, 0.225)}
  return imported(tmp_path_factory.mktemp("teacher") / "run", **view)


@pytest.fixture(scope="module")
def loaded(teacher):
  """(config, job, teacher) of a network that learns."""
  config = student_config(teacher)
  job = jobs.from_config(config)
  return config, job, load_teacher(config, job)


@pytest.mark.slow
def test_the_teacher_sees_images_as_it_was_trained(loaded):
  _, _, teacher = loaded
  pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
  found = teacher.outputs(teacher.variables, Preprocessing().normalize(pixels.astype(np.float32)))
  own = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).normalize(pixels.astype(np.float32))
  np.testing.assert_allclose(found, teacher.run.model.apply(teacher.variables, own), rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_sum_of_both(loaded):
  config, job, teacher = loaded
  rng = np.random.default_rng(1)
  logits, soft = rng.normal(size=(2, 6, 10)).astype(np.float32)
  batch = {"label": np.arange(6), "teacher": soft}
  targets = np.exp(soft / 2) / np.exp(soft / 2).sum(-1, keepdims=True)
  student = logits / 2 - np.log(np.exp(logits / 2).sum(-1, keepdims=True))
  expected = 0.5 * job.task.loss(logits, batch) + 0.5 * 4 * -(targets * student).sum(-1).mean()
  assert config.distill.weight == 0.5 and config.distill.temperature == 2
  np.testing.assert_allclose(teacher.loss(job.task)(logits, batch), expected, rtol=1e-5)
  # of segments: over the pixels that count
  task, maps = Segmentation(), rng.normal(size=(2, 1, 2, 2, 3)).astype(np.float32)
  label = np.array([[[0, 255], [2, 1]]])
  counted = [optax.softmax_cross_entropy(maps[0] / 3, jax.nn.softmax(maps[1] / 3))[label != 255].mean()]
  np.testing.assert_allclose(task.distillation(maps[0], maps[1], {"label": label}, 3.0), counted[0], rtol=1e-5)


def update(loaded, mode="shard_map", accumulate=1, **changes):
  """Returns a function batch -> (variables after a step, sums)."""
  config, job, teacher = loaded
  teacher = dataclasses.replace(teacher, **changes)
  rule, devices = optimizer(config.optim, lambda step: 0.01), parallel.MODES[mode]()
  compute = gradient_of(job.model, job.task, teacher.loss(job.task))
  step = train_step(compute, job.task, rule, ema=0.0, seed=0, axis=parallel.AXIS, accumulate=accumulate, teach=teacher.outputs)
  first = jax.device_get(states.create(initialize(job.model, 0), rule, False))
  compiled = devices.compile(step, outputs=2, donate=True, constants=1)

  def run(batch):
    state, sums = compiled(devices.replicate(first), devices.shard(batch), devices.replicate(teacher.variables))
    return jax.tree.leaves(devices.fetch(state.variables)), devices.fetch(sums)

  return run


@pytest.mark.slow
def test_a_step_learns_from_the_outputs_of_the_teacher(loaded):
  batch = dict(next(loaded[1].dataset.train_batches(0)))
  other = {**batch, "label": (batch["label"] + 1) % 10}
  # labels do not matter where the teacher has all of the loss
  whole = update(loaded, weight=1.0)
  found, sums = whole(batch)
  assert all(np.array_equal(a, b) for a, b in zip(found, whole(other)[0], strict=True))
  assert sums["objective"] / sums["count"] > 4 * 0.5 and sums.keys() == {"loss", "top1", "top5", "count", "objective"}
  # batch norm sees parts of the batch, in every device mode
  half, pmapped = update(loaded, accumulate=2), update(loaded, mode="pmap", accumulate=2)
  found, sums = half(batch)
  assert any(not np.array_equal(a, b) for a, b in zip(found, half(other)[0], strict=True))
  assert np.isfinite(sums["objective"]) and sums["count"] == 16
  for a, b in zip(found, pmapped(batch)[0], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


class Stop(Exception):
  """Ends a training in its middle."""


def stop():
  raise Stop


def interrupted(config, workdir, after):
  """Trains until the batch of a step."""
  job = jobs.from_config(config)
  with pytest.raises(Stop):
    train(config, workdir, dataclasses.replace(job, dataset=Killer(job.dataset, after, stop)))


@pytest.mark.slow
def test_a_run_goes_on_with_its_teacher_alone(teacher, tmp_path, capsys):
  config = student_config(teacher, **{"train.epochs": 2.0})
  train(config, tmp_path / "whole", jobs.from_config(config))
  said = capsys.readouterr().out
  assert f"teacher: mobilenetv3_small of {teacher} (raw weights of step 0), 0.5 of the loss, temperature 2" in said
  interrupted(config, tmp_path / "run", 9)
  moved = student_config(tmp_path / "teacher", **{"train.epochs": 2.0})
  shutil.copytree(teacher, tmp_path / "teacher")
  interrupted(moved, tmp_path / "other", 9)
  train(config, tmp_path / "run", jobs.from_config(config))
  (step, found), (last, expected) = last_state(tmp_path / "run"), last_state(tmp_path / "whole")
  assert step == last == 12 and all(found[k].tobytes() == expected[k].tobytes() for k in expected)
  # other weights in the same place, and none
  shutil.rmtree(tmp_path / "teacher")
  with pytest.raises(UsageError, match="no directory"):
    train(moved, tmp_path / "other", jobs.from_config(moved))
  imported(tmp_path / "teacher", seed=6)
  with pytest.raises(UsageError, match=r"the weights of config\.distill\.teacher='.*' are not those that this run began with"):
    train(moved, tmp_path / "other", jobs.from_config(moved))
  # a finished run needs none
  config.distill.teacher = str(teacher)
  assert train(config, tmp_path / "whole", jobs.from_config(config))["steps"] == 12


@pytest.mark.slow
def test_a_finished_run_from_before_there_were_teachers_is_done(tmp_path):
  config = tiny_config(**{"train.epochs": 2.0})
  train(config, tmp_path / "run", tiny_job(config))
  file = tmp_path / "run" / "config.json"
  written = json.loads(file.read_text())
  del written["distill"]
  file.write_text(json.dumps(written))
  assert train(config, tmp_path / "run", tiny_job(config))["steps"] == 12


def test_what_cannot_teach_is_refused(teacher, tmp_path):
  def refused(config, message):
    with pytest.raises(UsageError, match=message):
      check(config)
      train(config, tmp_path / "run", jobs.from_config(config))
    assert not (tmp_path / "run").exists()

  for changes, message in (
    ({"distill.weight": 0.0}, r"invalid config\.distill\.weight=0\.0; expected above 0 and at most 1"),
    ({"distill.weight": 1.5}, r"invalid config\.distill\.weight=1\.5"),
    ({"distill.temperature": 0.0}, r"invalid config\.distill\.temperature=0\.0; expected above 0"),
    ({"distill.teacher": "", "distill.weight": 0.9}, r"config\.distill\.weight=0\.9 needs config\.distill\.teacher=DIR"),
    ({"distill.teacher": str(tmp_path / "none")}, "no directory .*expected a run directory"),
    ({"model.num_classes": 12}, r"whose 10 classes are not the 12 of this run"),
  ):
    refused(student_config(teacher, **changes), message)
  named = imported(tmp_path / "named", tuple("abcdefghij"), **{"data.dataset": "folder"})
  refused(student_config(named), "10 classes are not the 10 of this run, first .* here and 'a' there")
  scenes = {"data.dataset": "scenes", "data.augment": "none", "model.resolution": 64}
  refused(student_config(teacher, **scenes, **{"model.head": "ssdlite"}), "for detection, which has no distillation")
  refused(
    student_config(teacher, **scenes, **{"model.head": "lr_aspp"}), "which is trained for classification; expected a run of"
  )
