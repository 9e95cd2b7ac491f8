"""Fake quantization: the numbers of 8 bits, gradients straight through, ranges that are kept, and nothing where it is off."""

import dataclasses
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, tiny_architecture
from tiny_run import last_state, tiny_config, tiny_job

from mnv3_jax.architectures import edits
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.export.tflite import PLAIN
from mnv3_jax.models import fake_quantization
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.fake_quantization import KEPT, Quantized
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network as network_of
from mnv3_jax.models.resize import bilinear
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.training import trained
from mnv3_jax.training.checkpoints import flatten, unflatten
from mnv3_jax.training.loop import train

EIGHT_BITS = Compute(quantize=True)
LOGITS = ("logits/output", "skip_logits/output")


def segmenter(head):
  """The tiny network with a map at stride 8 and one at 16."""
  tiny = tiny_architecture(resolution=32, num_classes=3)
  first, second, third = tiny.blocks
  blocks = (dataclasses.replace(first, stride=2), second, dataclasses.replace(third, stride=2))
  return edits.with_head(tiny.replace(blocks=blocks), head, filters=8, pool="global")


def int8_kernel(w):
  """(int8, scale) of a kernel, as an exporter writes them, channel by channel."""
  scale = np.array([max(np.abs(channel).max(), 1e-9) / 127 for channel in w.reshape(-1, w.shape[-1]).T])
  return np.clip(np.rint(w / scale), -127, 127).astype(np.int8), scale


def int8_map(x, low, high):
  """(int8, scale, zero point) of a map."""
  low, high = min(low, 0), max(high, 0)
  scale = (high - low) / 255
  zero = np.int8(np.rint(-128 - low / scale))
  return np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8), scale, zero


@pytest.mark.parametrize("shape", [(3, 3, 1, 24), (1, 1, 16, 8), (576, 10)])
def test_kernels_are_those_of_int8(shape):
  w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  whole, scale = int8_kernel(w)
  np.testing.assert_allclose(fake_quantization.weights(w), whole * scale, rtol=1e-6, atol=1e-7)
  assert np.abs(whole).max() == 127 and len(np.unique(whole)) > 90


def test_every_channel_has_a_scale_of_its_own():
  w = np.random.default_rng(0).normal(size=(5, 5, 1, 3)).astype(np.float32)
  factors = np.array([1, 1000, 0], np.float32)
  np.testing.assert_allclose(fake_quantization.weights(w * factors), fake_quantization.weights(w) * factors, rtol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 6.0), (-0.375, 9.1), (1.0, 4.0), (-4.0, -1.0)])
def test_maps_are_those_of_int8(low, high):
  x = np.random.default_rng(1).uniform(1.2 * low - 1, 1.2 * high + 1, 1000).astype(np.float32)
  whole, scale, zero = int8_map(x.astype(np.float64), low, high)
  found = np.asarray(fake_quantization.activations(x, low, high))
  # float32 may see the other side of a value in the middle between two
  assert np.isclose(found, (whole.astype(int) - zero) * scale, rtol=1e-5, atol=1e-6).mean() > 0.997
  np.testing.assert_allclose(found, (whole.astype(int) - zero) * scale, atol=1.01 * scale)
  assert len(np.unique(found)) <= 256
  assert fake_quantization.activations(jnp.zeros(()), low, high) == 0


@pytest.mark.slow
def test_gradients_go_straight_through_but_not_from_beyond():
  x = jnp.array([-9.0, -2.9, 0.0, 0.001, 4.9, 5.1])
  g = jax.grad(lambda x: (fake_quantization.activations(x, -3.0, 5.0) * jnp.arange(1, 7)).sum())(x)
  np.testing.assert_array_equal(g, [0, 2, 3, 4, 5, 0])
  ranges = jax.grad(lambda low, high: fake_quantization.activations(x, low, high).sum(), argnums=(0, 1))(-3.0, 5.0)
  assert ranges == (0, 0)
  w = jnp.array([[0.3, -2.0], [0.7, 1.1]])
  np.testing.assert_array_equal(
    jax.grad(lambda w: (fake_quantization.weights(w) ** 2).sum())(w), 2 * fake_quantization.weights(w)
  )


def test_a_range_is_the_average_of_extremes_and_stays_in_evaluation():
  module = Quantized()
  x = np.linspace(-1, 3, 64, dtype=np.float32).reshape(4, 16)
  start = {"batch_stats": {"low": jnp.zeros(()), "high": jnp.zeros(())}}
  np.testing.assert_array_equal(module.apply(start, x), x)
  y, first = module.apply(start, x, mutable=["batch_stats"])
  assert first["batch_stats"] == {"low": -1, "high": 3}
  np.testing.assert_array_equal(y, module.apply(first, x))
  _, second = module.apply(first, 2 * x, mutable=["batch_stats"])
  assert second["batch_stats"]["high"] == pytest.approx(3 * KEPT + 6 * (1 - KEPT))
  assert second["batch_stats"]["low"] == pytest.approx(-KEPT - 2 * (1 - KEPT))
  # evaluation of one photo does not depend on others
  np.testing.assert_array_equal(module.apply(first, 5 * x)[:1], module.apply(first, 5 * x[:1]))
  assert module.apply(first, 5 * x).max() == pytest.approx(3, abs=4 / 255)


def logits(model, variables, x):
  """As inference.logits, in one batch."""
  return np.asarray(jax.jit(model.apply)(variables, x))


@pytest.fixture(scope="module")
def network():
  """(the tiny network in 8 bits, variables that have seen one batch, the batch)."""
  a = tiny_architecture()
  variables, x = random_weights(a)
  model = Classifier(a, EIGHT_BITS)
  ranges = initialize(model, 0)["batch_stats"]
  old = flatten(variables["batch_stats"])
  start = unflatten(ranges, {**flatten(ranges), **old})

  @jax.jit
  def one_batch(statistics, x):
    variables_ = {"params": variables["params"], "batch_stats": statistics}
    return model.apply(variables_, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})[1]

  return model, {"params": variables["params"], **jax.device_get(one_batch(start, x))}, x


def test_the_maps_that_are_rounded(network):
  model, variables, _ = network
  found = {r.path: r for r in fake_quantization.ranges(model, variables)}
  rows = [f"backbone/{row}" for row in ("block_01", "block_02", "block_03")]
  assert list(found) == [
    "backbone/stem/output",
    f"{rows[0]}/depthwise/output",
    f"{rows[0]}/project/output",
    f"{rows[0]}/output",
    *(f"{rows[1]}/{unit}/{kind}" for unit in ("expand", "depthwise") for kind in ("linear_output", "output")),
    *(f"{rows[1]}/se/{name}" for name in ("mean", "squeezed", "gate", "output")),
    f"{rows[1]}/project/output",
    *(f"{rows[2]}/{unit}/{kind}" for unit in ("expand", "depthwise") for kind in ("linear_output", "output")),
    f"{rows[2]}/project/output",
    f"{rows[2]}/output",
    *("backbone/features/linear_output", "backbone/features/output"),
    *("pool", "hidden/linear_output", "hidden/output", "logits/output"),
  ]
  assert all(r.low <= 0 <= r.high or r.low < r.high for r in found.values())
  assert found["backbone/block_01/depthwise/output"].low == 0
  assert found["backbone/block_02/se/mean"].shape == (1, 1, 1, 24)
  assert found["backbone/features/output"].low == pytest.approx(-0.375, abs=0.05)


@pytest.mark.parametrize(
  ("head", "expected"),
  [
    ("lr_aspp", ["filter/output", "pool", "gate/linear_output", "gate/output", "gated", *LOGITS, "total"]),
    ("r_aspp", ["filter/output", "pool", "pooled/output", "joined", "merge/output", "logits/output"]),
  ],
)
def test_the_maps_of_a_segmenter(head, expected):
  model = network_of(segmenter(head), EIGHT_BITS)
  found = [r.path for r in fake_quantization.ranges(model, initialize(model, 0))]
  assert [path for path in found if not path.startswith("backbone/")] == expected


@pytest.mark.parametrize("head", ["lr_aspp", "r_aspp"])
def test_a_segmenter_in_training(head):
  a = segmenter(head)
  model = network_of(a, EIGHT_BITS)
  start = initialize(model, 0)

  @jax.jit
  def step(x):
    # logits before the last interpolation, which is not rounded
    _, changed = model.apply(start, x, True, method="coarse", mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    variables = {**start, **changed}
    return changed["batch_stats"], model.apply(variables, x, method="coarse"), model.apply(variables, x)

  x = np.random.default_rng(0).uniform(-1, 1, (4, *a.image_shape)).astype(np.float32)
  own, coarse, whole = step(x)
  # a gate is one half at first
  assert all(r.low < r.high or r.path == "gate/output" for r in fake_quantization.ranges(model, {**start, "batch_stats": own}))
  for name, leaf in flatten(own).items():
    if not fake_quantization.is_range(name):
      np.testing.assert_array_equal(leaf, flatten(start["batch_stats"])[name])
  last = own["total"] if head == "lr_aspp" else own["logits"]["output"]
  _, scale, zero = int8_map(np.asarray(coarse), float(last["low"]), float(last["high"]))
  steps = np.asarray(coarse) / scale + zero
  np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
  steps = np.asarray(whole) / scale
  assert np.abs(steps - np.rint(steps)).max() > 0.1


def test_an_interpolated_map_has_the_scale_of_its_input():
  class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x):
      return fake_quantization.rounded_alike(self, ("q",), bilinear(Quantized(name="q")(x), (8, 8)))

  x = np.random.default_rng(0).uniform(-1, 3, (1, 4, 4, 2)).astype(np.float32)
  bounds = {"q": {"low": np.float32(-1), "high": np.float32(2)}}
  found = np.asarray(Scaled().apply({"batch_stats": bounds}, x))
  assert len(np.unique(found)) > 50
  np.testing.assert_allclose(found, fake_quantization.activations(found, -1.0, 2.0), atol=1e-6)
  # before the first batch maps stay as they are
  zeros = {"q": {"low": np.float32(0), "high": np.float32(0)}}
  np.testing.assert_array_equal(Scaled().apply({"batch_stats": zeros}, x), bilinear(jnp.asarray(x), (8, 8)))


def test_a_mean_of_one_value_is_not_rounded_twice():
  # block 2 and all that follows are one pixel then
  model = Classifier(tiny_architecture(resolution=4), EIGHT_BITS)
  paths = [r.path for r in fake_quantization.ranges(model, initialize(model, 0))]
  assert "pool" not in paths and "backbone/block_02/se/mean" not in paths and "backbone/block_02/se/gate" in paths


def test_the_head_in_whole_numbers(network):
  """The linear map of the hidden layer as a runtime computes it."""
  model, variables, x = network

  @jax.jit
  def maps(variables, x):
    kept = model.apply(variables, x, capture_intermediates=lambda m, _: isinstance(m, Quantized), mutable=["intermediates"])[1]
    return {path: kept["intermediates"][path[0]][path[1]]["__call__"][0] for path in (HIDDEN,)} | {
      POOL: kept["intermediates"]["pool"]["__call__"][0]
    }

  HIDDEN, POOL = ("hidden", "linear_output"), ("pool",)
  found = maps(variables, x)
  own = variables["batch_stats"]
  pooled, s, z = int8_map(np.asarray(found[POOL]), float(own["pool"]["low"]), float(own["pool"]["high"]))
  np.testing.assert_allclose(found[POOL], (pooled.astype(int) - z) * s, rtol=1e-4, atol=1e-6)
  kernel, t = int8_kernel(variables["params"]["hidden"]["kernel"])
  linear = ((pooled.astype(int) - z) @ kernel.astype(int)) * s * t + variables["params"]["hidden"]["bias"]
  whole, s, z = int8_map(linear, *(float(own["hidden"]["linear_output"][k]) for k in ("low", "high")))
  assert np.isclose(found[HIDDEN], (whole.astype(int) - z) * s, atol=1e-2 * s).mean() > 0.98
  np.testing.assert_allclose(found[HIDDEN], (whole.astype(int) - z) * s, atol=1.01 * s)


def test_off_changes_nothing_and_on_only_adds_ranges():
  a = tiny_architecture()
  plain, rounded = flatten(initialize(Classifier(a), 0)), flatten(initialize(Classifier(a, EIGHT_BITS), 0))
  assert not any(fake_quantization.is_range(name) for name in plain)
  added = {name: leaf for name, leaf in rounded.items() if name not in plain}
  assert len(added) == 2 * 25 and all(fake_quantization.is_range(name) and leaf == 0 for name, leaf in added.items())
  for name, leaf in plain.items():
    np.testing.assert_array_equal(rounded[name], leaf)


@pytest.mark.slow
def test_ranges_do_no_harm_where_nothing_is_rounded(network):
  model, variables, x = network
  plain = Classifier(model.net, PLAIN)
  known = flatten(initialize(plain, 0))
  without = unflatten(initialize(plain, 0), {name: flatten(variables)[name] for name in known})
  expected = logits(plain, without, x)
  np.testing.assert_array_equal(logits(plain, variables, x), expected)
  rounded = logits(model, variables, x)
  assert 1e-3 < np.abs(rounded - expected).mean() / np.abs(expected).mean() < 0.2


def test_batch_norm_keeps_its_statistics(network):
  _, variables, _ = network
  before, after = flatten(random_weights(tiny_architecture())[0]["batch_stats"]), flatten(variables["batch_stats"])
  for name, leaf in before.items():
    np.testing.assert_array_equal(after[name], leaf)


def test_what_is_computed_of_an_image_does_not_depend_on_others(network):
  model, variables, x = network
  # an image with a range of its own
  beside = np.concatenate([x[:1], 100 * x[1:]])
  own = variables["batch_stats"]["logits"]["output"]
  found = logits(model, variables, x)[:1], logits(model, variables, beside)[:1]
  np.testing.assert_allclose(*found, atol=0.01 * float(own["high"] - own["low"]) / 255)


@pytest.mark.slow
@pytest.mark.parametrize("formulation", ["plain", "shifted"])
def test_every_formulation_is_rounded_alike(network, formulation):
  model, variables, x = network
  expected = logits(model, variables, x)
  found = logits(Classifier(model.net, dataclasses.replace(EIGHT_BITS, formulation=formulation)), variables, x)
  exact = logits(Classifier(model.net, PLAIN), variables, x)
  # sums in another order may round to the neighbour here and there
  assert np.abs(found - expected).mean() < 0.5 * np.abs(exact - expected).mean()


EIGHT_DEVICES = """
import jax, numpy as np
from conftest import tiny_architecture
from mnv3_jax.config import base
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.step import gradient_of, train_step

model, devices = Classifier(tiny_architecture(), Compute(quantize=True)), parallel.ShardMap()
rule = optimizer(base().optim, lambda step: 0.1)
compute = gradient_of(model, Classification())
step = train_step(compute, Classification(), rule, ema=0.0, seed=0, axis=parallel.AXIS)
update = devices.compile(step, outputs=2, donate=True)
variables = initialize(model, 0)
x = np.random.default_rng(0).uniform(-1, 1, (16, 16, 16, 3)).astype(np.float32)
state = devices.replicate(jax.device_get(states.create(variables, rule, False)))
state, _ = update(state, devices.shard({"image": x, "label": np.zeros(16, np.int32)}))
high = state.variables["batch_stats"]["backbone"]["stem"]["output"]["high"]
stem = np.asarray(model.apply(variables, x, method="features")["stem"])
own = [float(part.max()) for part in np.split(stem, 8)]
assert jax.device_count() == 8 and max(own) > 1.05 * np.mean(own)
np.testing.assert_allclose([float(np.asarray(s.data)) for s in high.addressable_shards], [np.mean(own)] * 8, rtol=1e-5)
"""


@pytest.mark.nightly
@pytest.mark.slow
def test_eight_devices_average_their_ranges():
  environment = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
  }
  done = subprocess.run([sys.executable, "-c", EIGHT_DEVICES], env=environment, capture_output=True, text=True, timeout=240)
  assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """(a float run of the tiny network, a run that starts from it in 8 bits)."""
  folder = tmp_path_factory.mktemp("runs")
  patch = pytest.MonkeyPatch()
  patch.setattr(trained.jobs, "from_config", tiny_job)
  config = tiny_config(**{"train.epochs": 2.0})
  train(config, folder / "float", tiny_job(config))
  config = tiny_config(**{"train.epochs": 2.0, "train.init": str(folder / "float"), "quantize_aware": True})
  train(config, folder / "rounded", tiny_job(config))
  yield folder / "float", folder / "rounded"
  patch.undo()


@pytest.mark.slow
def test_a_run_starts_from_a_float_run(runs):
  start, end = (trained.load(run) for run in runs)
  assert end.model.compute.quantize and not start.model.compute.quantize
  old, new = flatten(start.variables), flatten(end.variables)
  statistics = [n for n in old if n.endswith(("['mean']", "['var']"))]
  assert statistics
  for name in statistics:
    # the average moves towards what does not move
    np.testing.assert_allclose(new[name], old[name], rtol=1e-5, atol=1e-6)
  assert max(np.abs(new[n] - old[n]).max() for n in old if n.endswith("['kernel']")) > 0
  assert all(r.low < r.high for r in fake_quantization.ranges(end.model, end.variables))


@pytest.mark.slow
def test_evaluation_is_of_the_rounded_network(runs):
  run = trained.load(runs[1])
  (batch,) = run.job.dataset.eval_batches(50)
  loss = run.job.task.metrics(
    {k: float(v) for k, v in run.job.task.sums(logits(run.model, run.variables, batch["image"]), batch).items()}
  )
  recorded = json.loads((runs[1] / "result.json").read_text())["metrics"]["test"]["ema"]
  assert recorded["loss"] == pytest.approx(loss["loss"], rel=2e-3)
  float32 = logits(Classifier(run.model.net, PLAIN), run.variables, batch["image"])
  sums = run.job.task.sums(float32, batch)
  assert abs(float(sums["loss"]) / 50 - recorded["loss"]) > 1e-5


@pytest.mark.slow
def test_a_run_goes_on_as_if_it_had_not_stopped(runs, tmp_path):
  config = trained.load(runs[1]).config
  job = tiny_job(config)

  class Stops:
    """The data set of a run that is asked to stop after some steps."""

    def __getattr__(self, name):
      return getattr(job.dataset, name)

    def train_batches(self, start):
      for step, batch in enumerate(job.dataset.train_batches(start), start):
        if step == 8:
          raise OSError("the disk is gone")
        yield batch

  Dataset.register(Stops)
  with pytest.raises(OSError, match="gone"):
    train(config, tmp_path / "run", dataclasses.replace(job, dataset=Stops()))
  assert RunDirectory(tmp_path / "run").result() is None
  train(config, tmp_path / "run", job)
  (step, expected), (found_step, found) = last_state(runs[1]), last_state(tmp_path / "run")
  assert found_step == step and found.keys() == expected.keys()
  for name, leaf in expected.items():
    np.testing.assert_array_equal(found[name], leaf, err_msg=name)


@pytest.mark.slow
def test_a_float_run_starts_from_a_rounded_one(runs, tmp_path):
  config = tiny_config(**{"train.epochs": 1.0, "train.init": str(runs[1])})
  train(config, tmp_path / "run", tiny_job(config))
  assert not any(fake_quantization.is_range(n) for n in flatten(trained.load(tmp_path / "run").variables))
