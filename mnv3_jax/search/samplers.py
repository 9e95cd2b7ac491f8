"""Samplers of a platform-aware search: which choices come next, from the samples that are done.

Every proposal is a function of (seed, number of the sample, earlier samples) alone. Optuna's study is built anew for each from
those samples: a study that is opened again with its seed proposes the first samples again, and one of a killed process has
samples that run for ever.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv3_jax.architectures.validation import nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.subnetworks.space import Choices, SearchSpace

if TYPE_CHECKING:
  from optuna.distributions import BaseDistribution
  from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "nsga2", "random")
# of NSGA-II; Optuna's 50 is for longer searches
POPULATION = 20
# proposals that repeat earlier samples before a random one takes their place
REPEATS = 20
# of which all repeat earlier samples only where hardly any other is left
DRAWS = 10_000
NO_OPTUNA = (
  "sampler={!r} needs Optuna: pip install -c requirements.txt -c requirements-extras.txt '.[search]'; 'random' does not"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
  """An earlier sample as a sampler sees it.

  Attributes:
    choices: of the sample.
    reward: None while it is not known: of samples that are proposed together, or of failed ones.
    failed: whether its training failed for good.
    attributes: what the sampler noted with its proposal.
  """

  choices: Choices
  reward: float | None = None
  failed: bool = False
  attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def check_sampler(name: str) -> None:
  """Validates the name of a sampler.

  Raises:
    UsageError: for an unknown one, or one of Optuna where that is not installed.
  """
  if name not in SAMPLERS:
    raise UsageError(f"invalid sampler={name!r}; {nearest(name, SAMPLERS)}")
  if name != "random" and importlib.util.find_spec("optuna") is None:
    raise UsageError(NO_OPTUNA.format(name))


def propose(
  name: str, space: SearchSpace, earlier: Sequence[Observation], seed: int, number: int
) -> tuple[Choices, dict[str, Any]]:
  """Proposes the choices of a sample, which no earlier sample has.

  Args:
    name: "tpe" (tree-structured Parzen estimator), "nsga2" (evolution) or "random".
    space: the search space.
    earlier: all samples before it, in order.
    seed: of the search.
    number: of the sample, from 1 on.

  Returns:
    (choices in canonical form, attributes to be kept with them).

  Raises:
    UsageError: as check_sampler, and where no other choices are left.
  """
  check_sampler(name)
  known = {tuple(seen.choices.values()) for seen in earlier}
  for repeat in range(REPEATS) if name != "random" else ():
    choices, attributes = _ask_optuna(name, space, earlier, _seed(seed, number, repeat))
    if tuple(choices.values()) not in known:
      return choices, attributes
  rng = np.random.default_rng((seed, number))
  for _ in range(DRAWS):
    choices = space.random(rng)
    if tuple(choices.values()) not in known:
      return choices, {}
  raise UsageError(f"no network of the search space is left after {len(earlier)} samples; expected fewer samples")


def _seed(*numbers: int) -> int:
  return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _ask_optuna(name: str, space: SearchSpace, earlier: Sequence[Observation], seed: int) -> tuple[Choices, dict[str, Any]]:
  """Asks a sampler of Optuna, given a study of the earlier samples."""
  import optuna

  categorical = optuna.distributions.CategoricalDistribution
  distributions: dict[str, BaseDistribution] = {key: categorical(values) for key, values in space.options.items()}
  # a line for every study
  before = optuna.logging.get_verbosity()
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  try:
    study = optuna.create_study(direction="maximize", sampler=_sampler(optuna, name, seed))
    for seen in earlier:
      if seen.failed:
        continue
      study.add_trial(
        optuna.trial.create_trial(
          params=dict(seen.choices),
          distributions=distributions,
          value=seen.reward,
          # those that run are taken for bad ones, so that samples proposed together differ
          state=optuna.trial.TrialState.RUNNING if seen.reward is None else optuna.trial.TrialState.COMPLETE,
          system_attrs=dict(seen.attributes),
        )
      )
    asked = study.ask(distributions)
    attributes = study.trials[asked.number].system_attrs
  finally:
    optuna.logging.set_verbosity(before)
  # by which NSGA-II knows its populations
  return space.canonical(asked.params), {key: n for key, n in attributes.items() if key.endswith(":generation")}


def _sampler(optuna: ModuleType, name: str, seed: int) -> "BaseSampler":
  if name == "nsga2":
    return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
  return optuna.samplers.TPESampler(seed=seed)
