"""Guards of the training step without timing: number of compilations, operations, bytes accessed."""

import json
import re
import time

import jax
import numpy as np
import pytest
from conftest import ROOT
from tiny_run import tiny_config, tiny_job

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.config import base
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.loop import train
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.step import gradient_of, train_step

GOLDEN = ROOT / "tests" / "training" / "golden_bytes.json"
REGENERATE = "PYTHONPATH=tests:tests/training python tests/training/test_guards.py, with each jax   (say in the commit why)"


@pytest.fixture
def compiled():
  """Times of compilations, or of hits in the compilation cache."""
  moments = []

  def listener(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      moments.append(time.monotonic())

  jax.monitoring.register_event_duration_secs_listener(listener)
  yield moments
  jax.monitoring.unregister_event_duration_listener(listener)


@pytest.mark.slow
def test_nothing_is_compiled_once_every_kind_of_step_was_made(compiled, tmp_path):
  """Trains on 100 images and evaluates on 50, in batches of 16: the last batches are not whole."""
  reached = {}

  class Watched:
    """Data set that notes when each step begins."""

    def __init__(self, real):
      self.real = real

    def __getattr__(self, name):
      return getattr(self.real, name)

    def train_batches(self, start):
      for step, batch in enumerate(self.real.train_batches(start), start):
        reached[step] = time.monotonic()
        yield batch

  config = tiny_config(**{"train.epochs": 3.0})
  job = tiny_job(config)
  object.__setattr__(job, "dataset", Watched(job.dataset))
  train(config, tmp_path / "run", job)
  # epochs have 6 steps; batches are made up to four steps ahead of the device
  before, after = (sum(moment < reached[11] for moment in compiled), sum(moment >= reached[11] for moment in compiled))
  assert after == 0 and 0 < before <= 30, (before, after)


def lowered():
  """Returns the lowered step of MobileNetV3-Small at 32 px with two images, and its architecture."""
  net = architecture("mobilenetv3_small", resolution=32)
  model, devices = Classifier(net), parallel.ShardMap()
  rule = optimizer(base().optim, lambda step: 1e-3)
  step = train_step(gradient_of(model, Classification()), Classification(), rule, ema=0.999, seed=0, axis=parallel.AXIS)
  state = jax.eval_shape(lambda v: states.create(v, rule, True), initialize(model, 0))
  n = 2 * jax.device_count()
  batch = {"image": jax.ShapeDtypeStruct((n, 32, 32, 3), np.float32), "label": jax.ShapeDtypeStruct((n,), np.int32)}
  return devices.compile(step, outputs=2, donate=True).lower(state, batch), net


def products(net):
  """Counts the matrix products of a network's layers: expansions, squeeze-excites, projections, the head."""
  blocks = [(b.expand != channels) + 2 * (b.se is not None) + 1 for _, channels, b in net.rows()]
  return sum(blocks) + (net.features is not None) + (net.head.hidden is not None) + 1


@pytest.mark.slow
def test_the_step_has_the_operations_of_the_network_and_no_more():
  step, net = lowered()
  text = step.as_text()
  assert text.count("stablehlo.convolution(") == 1, "the gradient of the stem's weight"
  assert set(re.findall(r"feature_group_count = (\d+)", text)) == {"1"}
  # each product, and those of its two gradients
  assert text.count("stablehlo.dot_general") == 3 * products(net)
  # every leaf of the state takes the place of the old one
  leaves = len(jax.tree.leaves(step.in_avals[0][0]))
  assert text.count("tf.aliasing_output") == leaves or text.count("jax.buffer_donor") == leaves


def bytes_accessed():
  """Returns the bytes accessed by the compiled step, as XLA counts them."""
  return lowered()[0].compile().cost_analysis()["bytes accessed"]


@pytest.mark.slow
def test_the_step_touches_no_more_memory():
  version = ".".join(jax.__version__.split(".")[:2])
  golden = json.loads(GOLDEN.read_text())
  assert version in golden, REGENERATE
  assert bytes_accessed() == pytest.approx(golden[version], rel=0.05), REGENERATE


if __name__ == "__main__":
  known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
  known[".".join(jax.__version__.split(".")[:2])] = bytes_accessed()
  GOLDEN.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
