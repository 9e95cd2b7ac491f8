"""Samplers: proposals depend on (seed, number, earlier samples) alone, and never repeat a sample."""

import importlib.util

import numpy as np
import pytest

from mnv3_jax.errors import UsageError
from mnv3_jax.search import samplers
from mnv3_jax.search.samplers import Observation, propose
from mnv3_jax.subnetworks.space import SearchSpace, Stage, mnasnet_space

SPACE = mnasnet_space()
TINY = SearchSpace(stages=(Stage(filters=(8, 16), layers=(1, 2), stride=2, ops=("mbconv3",), kernels=(3,)),))


# make engines installs Optuna
every_sampler = pytest.mark.parametrize(
  "name", ["random", *(pytest.param(name, marks=pytest.mark.engines) for name in samplers.SAMPLERS if name != "random")]
)


def landscape(choices):
  """A reward of deep stages and kernels of 3."""
  return sum(choices[f"stage_{i}.layers"] - (choices[f"stage_{i}.kernel"] == 5) for i in range(1, 8))


def searched(name, n, seed=0):
  found = []
  for number in range(1, n + 1):
    choices, attributes = propose(name, SPACE, found, seed, number)
    found.append(Observation(choices=choices, reward=landscape(choices), attributes=attributes))
  return found


@every_sampler
def test_proposals_are_repeatable_and_differ(name):
  found = searched(name, 24)
  assert len({tuple(seen.choices.values()) for seen in found}) == 24
  for number in (1, 12, 24):
    assert propose(name, SPACE, found[: number - 1], 0, number) == (found[number - 1].choices, found[number - 1].attributes)
  assert propose(name, SPACE, found, 0, 25) != propose(name, SPACE, found, 1, 25)
  # those proposed together differ, and failed ones are not proposed again
  pending = [Observation(choices=found[-1].choices), Observation(choices=found[-2].choices, failed=True)]
  choices, _ = propose(name, SPACE, [*found[:-2], *pending], 0, 25)
  assert choices not in [seen.choices for seen in found]


@pytest.mark.engines
def test_tpe_finds_more_than_random():
  late = {name: np.mean([s.reward for seed in range(2) for s in searched(name, 40, seed)[30:]]) for name in ("tpe", "random")}
  assert late["tpe"] > late["random"] + 1


@every_sampler
def test_a_small_space_is_used_up(name):
  # with one layer of stride 2 the skip has no effect
  networks, found = 2 * 2 * (2 + 1), []
  for number in range(1, networks + 1):
    choices, attributes = propose(name, TINY, found, 0, number)
    found.append(Observation(choices=choices, reward=0.5, attributes=attributes))
  with pytest.raises(UsageError, match=f"no network of the search space is left after {networks} samples"):
    propose(name, TINY, found, 0, networks + 1)


def test_unknown_and_missing_samplers(monkeypatch):
  with pytest.raises(UsageError, match="invalid sampler='tpa'; did you mean 'tpe'"):
    propose("tpa", SPACE, [], 0, 1)
  real = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else real(name))
  with pytest.raises(UsageError, match=r"sampler='tpe' needs Optuna: pip install .*\.\[search\]'; 'random' does not"):
    propose("tpe", SPACE, [], 0, 1)
  assert propose("random", SPACE, [], 0, 1)[1] == {}
