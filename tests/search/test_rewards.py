"""Rewards: what MnasNet, the paper and TuNAS say of them."""

import math

import pytest
from hypothesis import given, strategies as st

from mnv3_jax.errors import UsageError
from mnv3_jax.search.rewards import Reward, absolute, hard, multiplicative, soft

share = st.floats(0.05, 1.0)
ms = st.floats(0.1, 1000.0)


def test_twice_the_latency_is_worth_five_percent():
  assert soft(0.5, 10, 10) == 0.5
  assert soft(0.5 * 1.05, 20, 10) == pytest.approx(0.5, rel=1e-3)
  # small networks gain more with latency, and are rewarded less for it
  assert soft(0.5, 20, 10, -0.15) == pytest.approx(0.5 * 2**-0.15) and 2**0.15 == pytest.approx(1.11, abs=0.002)


def test_the_hard_reward_ignores_latency_up_to_the_target():
  assert hard(0.6, 3, 10) == hard(0.6, 10, 10) == 0.6
  assert hard(0.6, 20, 10) == pytest.approx(0.3)


def test_the_absolute_reward_is_largest_at_the_target():
  assert absolute(0.6, 10, 10) == 0.6
  assert absolute(0.6, 12, 10) == pytest.approx(0.6 - 0.1 * 0.2) == absolute(0.6, 8, 10)


@given(share, ms, ms, st.floats(-2, -0.01))
def test_any_reward_grows_with_accuracy_and_has_the_accuracy_at_the_target(accuracy, latency, target, weight):
  for kind in ("soft", "hard", "absolute"):
    reward = Reward(kind=kind, target_ms=target, weight=None if kind == "hard" else weight)
    assert math.isclose(reward(accuracy, target), accuracy)
    assert reward(accuracy, latency) > reward(accuracy / 2, latency)
  assert soft(accuracy, latency, target, weight) == multiplicative(accuracy, latency, target, below=weight, above=weight)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"kind": "sotf"}, "invalid reward='sotf'; did you mean 'soft'"),
    ({"kind": "hard", "weight": -1.0}, "invalid weight=-1 with reward='hard'"),
    ({"kind": "soft", "weight": 0.07}, "invalid weight=0.07; expected a negative number"),
    ({"kind": "absolute", "weight": math.nan}, "invalid weight=nan"),
  ],
)
def test_bad_rewards(fields, message):
  with pytest.raises(UsageError, match=message):
    Reward(target_ms=1.0, **fields)
