"""Training step: golden values, moving average, gradient accumulation, and that the loss falls."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import ROOT, tiny_architecture

from mnv3_jax.config import base
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.optimizer import optimizer, schedule
from mnv3_jax.training.step import gradient_of, train_step

GOLDEN = ROOT / "tests" / "training" / "golden_step.txt"
REGENERATE = "PYTHONPATH=tests python tests/training/test_step.py   (and say in the commit why the numbers had to change)"


def batch(n=8, resolution=16):
  rng = np.random.default_rng(5)
  return {
    "image": rng.uniform(-1, 1, (n, resolution, resolution, 3)).astype(np.float32),
    "label": rng.integers(0, 10, n).astype(np.int32),
  }


def steps(n, ema=0.99, dropout_seed=0, **optim):
  """Returns (states after each of n steps, sums of each) of the tiny network on one batch."""
  config = base()
  config.optim.update({"lr": 0.1, "batch_reference": 0, "epsilon": 0.01, "warmup": 1.0, **optim})
  model = Classifier(tiny_architecture())
  rule = optimizer(config.optim, schedule(config.optim, batch_size=8, steps_per_epoch=2, total_steps=100))
  devices = parallel.ShardMap()
  update = devices.compile(
    train_step(
      gradient_of(model, Classification(0.1)), Classification(0.1), rule, ema=ema, seed=dropout_seed, axis=parallel.AXIS
    ),
    outputs=2,
    donate=False,
  )
  state = devices.replicate(jax.device_get(states.create(initialize(model, 0), rule, ema > 0)))
  found, sums = [devices.fetch(state)], []
  for _ in range(n):
    state, s = update(state, devices.shard(batch()))
    found.append(devices.fetch(state))
    sums.append(devices.fetch(s))
  return found, sums


def golden():
  """Returns the values of the third step by name."""
  found, sums = steps(3)
  norms = {
    "/".join(k.key for k in path): np.linalg.norm(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found[-1].variables)
  }
  return {**{f"sum of {k}": float(v) for k, v in sums[-1].items()}, **{k: float(v) for k, v in norms.items()}}


def test_the_golden_step():
  expected = dict(line.rsplit(" ", 1) for line in GOLDEN.read_text().splitlines())
  found = golden()
  assert found.keys() == expected.keys()
  for name, value in found.items():
    assert value == pytest.approx(float(expected[name]), rel=2e-4, abs=1e-6), f"{name} changed; if that is meant: {REGENERATE}"


@pytest.mark.slow
def test_the_average_is_tensorflows():
  found, _ = steps(4, ema=0.3)
  average = found[0].variables
  for n, state in enumerate(found[1:]):
    d = min(0.3, (1 + n) / (10 + n))
    average = jax.tree.map(lambda a, v, d=d: d * a + (1 - d) * v, average, state.variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), average, state.ema)
  assert not steps(1, ema=0.0)[0][-1].ema


@pytest.mark.slow
def test_it_learns_one_batch():
  _, sums = steps(40)
  assert sums[-1]["objective"] < 0.7 * sums[0]["objective"]
  assert sums[-1]["count"] == 8 and sums[-1]["loss"] < sums[-1]["objective"]


@pytest.mark.slow
def test_dropout_is_a_function_of_the_seed():
  one, same, other = (steps(2, dropout_seed=s)[1][-1]["objective"] for s in (0, 0, 1))
  assert one == same != other


@pytest.mark.slow
@pytest.mark.parametrize("group", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(group):
  """Four parts of two images equal a step of eight images with batch-norm groups of two; two parts, groups of four."""
  model = Classifier(
    tiny_architecture(head=dataclasses.replace(tiny_architecture().head, dropout=0.0)), Compute(bn_group=group)
  )
  config = base()
  rule = optimizer(config.optim, lambda step: 0.1)
  devices = parallel.ShardMap()
  ends = []
  for accumulate in (1, 8 // group):
    step = train_step(
      gradient_of(model, Classification()), Classification(), rule, ema=0.0, seed=0, axis=parallel.AXIS, accumulate=accumulate
    )
    update = devices.compile(step, outputs=2, donate=False)
    state = devices.replicate(jax.device_get(states.create(initialize(model, 0), rule, False)))
    state, sums = update(state, devices.shard(batch()))
    ends.append((devices.fetch(state), devices.fetch(sums)))
  (whole, sums), (parts, part_sums) = ends
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole.variables["params"], parts.variables["params"]
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sums, part_sums)
  # moving statistics take one step for every part
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole.variables["batch_stats"], parts.variables["batch_stats"])
  assert max(jax.tree.leaves(moved)) > 0


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
  from mnv3_jax.errors import UsageError

  monkeypatch.setattr(jax, "device_count", lambda: 8)
  parallel.check_batch(64)
  with pytest.raises(UsageError, match=r"batch_size=60 for 8 devices; expected a multiple of 8, such as 64"):
    parallel.check_batch(60)
  parallel.check_batch(96, 4, accumulate=3)
  with pytest.raises(UsageError, match=r"for 8 devices in 3 parts each; expected a multiple of 24, such as 72"):
    parallel.check_batch(64, accumulate=3)
  with pytest.raises(UsageError, match=r"bn_group=5; expected a divisor of the 4 images"):
    parallel.check_batch(96, 5, accumulate=3)


if __name__ == "__main__":
  GOLDEN.write_text("".join(f"{k} {v:.7g}\n" for k, v in golden().items()))
  print(f"wrote {GOLDEN}")
