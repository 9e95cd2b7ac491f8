"""Training of subnetworks in the functions of their seed: nothing is compiled, nothing comes back, and L2 is their own."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import NIGHTLY, tiny_architecture
from random_subnetworks import random_subnetwork
from tiny_run import tiny_config

from mnv3_jax.architectures import edits
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network
from mnv3_jax.search.compilations import Compilations
from mnv3_jax.search.masked_training import MaskedTraining
from mnv3_jax.subnetworks.subnetwork import Subnetwork, masked, masks, truncated
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.job import Job, open_dataset

SEED = tiny_architecture(head=dataclasses.replace(tiny_architecture().head, dropout=0.0))


def training(architecture=SEED, rate=0.01, **optim):
  """MaskedTraining of the tiny network, or of another one on the same data."""
  config = tiny_config()
  config.optim.update({"l2": 0.01, **optim})
  job = Job(architecture, network(architecture), Classification(), open_dataset(config, architecture.resolution))
  return MaskedTraining(config, job, rate)


def subnetworks(n):
  """Different networks inside of the tiny one."""
  sizes = [{"block_02": (16 + i, 12), "block_03": (32 - i, 12)} for i in range(n)]
  blocks = tuple(name for name, _, _ in SEED.rows())
  found = [edits.with_channels(SEED, s) for s in sizes]
  found[0] = found[0].replace(blocks=tuple(dataclasses.replace(b, kernel=3) for b in found[0].blocks))
  return [random_subnetwork(SEED, a, blocks, np.random.default_rng(i)) for i, a in enumerate(found)]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rmsprop", *(pytest.param(rule, marks=NIGHTLY) for rule in ("sgd", "adamw"))])
def test_training_with_masks_is_training_the_small_network(rule):
  decay = {"weight_decay": 0.1} if rule == "adamw" else {}
  settings = {"name": rule, "epsilon": 0.1, **decay}
  (subnetwork,) = subnetworks(1)
  variables = initialize(network(SEED), 0)
  mask = masks(subnetwork, variables["params"])
  tuned = training(**settings).fine_tune(variables, mask, first=3, steps=4)
  jax.tree.map(np.testing.assert_array_equal, tuned["params"], masked(tuned, mask)["params"])
  assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (tuned, masked(variables, mask))), strict=True))
  small = truncated(variables, subnetwork)
  alone = training(subnetwork.architecture, **settings)
  whole = masks(Subnetwork.whole(subnetwork.architecture), small["params"])
  expected = alone.fine_tune(small, whole, first=3, steps=4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), expected, truncated(tuned, subnetwork))


@pytest.mark.slow
def test_proposals_compile_nothing():
  """One program for training and one for evaluation, whatever the masks; and the same numbers again."""
  one, variables = training(), initialize(network(SEED), 0)
  dataset, found = one.job.dataset.limit_eval(20), []

  def evaluated(subnetwork):
    tuned = one.fine_tune(variables, masks(subnetwork, variables["params"]), first=0, steps=2)
    return one.evaluate(tuned, dataset)["loss"]

  with Compilations() as first:
    found.append(evaluated(Subnetwork.whole(SEED)))
  assert first.by_name["jit(step)"] == 2, first.by_name
  with Compilations() as later:
    found += [evaluated(subnetwork) for subnetwork in subnetworks(3)]
    assert evaluated(Subnetwork.whole(SEED)) == found[0]
  assert not later.by_name
  assert len(set(found)) == 4


@pytest.mark.slow
def test_what_cannot_be_trained_is_refused():
  with pytest.raises(UsageError, match=r"the run is an import.*mnv3 train --init DIR"):
    training(name="none")
  config = tiny_config(quantize_aware=True)
  with pytest.raises(UsageError, match="fake quantization"):
    MaskedTraining(config, None, 0.1)
  variables = initialize(network(SEED), 0)
  with pytest.raises(FatalError, match=r"not finite at step \d; a lower learning_rate"):
    training(rate=1e30).fine_tune(variables, masks(Subnetwork.whole(SEED), variables["params"]), first=0, steps=4)
