"""The paper's order of a table's rows, tested with the results of a scale."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from scipy import stats

from mnv3_jax.names import counted
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.table import Table

# names of two rows: the paper has a higher metric for the first
Pair: TypeAlias = tuple[str, str]
# probability of an error among all pairs of a table
LEVEL = 0.05
# pairs that a sentence names
NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claims:
  """The paper's order of pairs of rows beside ours.

  Attributes:
    supported: pairs that are ordered as in the paper.
    contradicted: pairs that are ordered the other way round.
    undecided: pairs that seeds do not tell apart.
    not_run: pairs with a row that has no runs.
    seeds: seeds that all tested rows have.
  """

  supported: tuple[Pair, ...] = ()
  contradicted: tuple[Pair, ...] = ()
  undecided: tuple[Pair, ...] = ()
  not_run: tuple[Pair, ...] = ()
  seeds: tuple[int, ...] = ()

  def __str__(self) -> str:
    """Formats the claims as a sentence; "" where no pair was tested."""
    tested = len(self.supported) + len(self.contradicted) + len(self.undecided)
    if not tested:
      return ""
    parts = [f"{len(self.supported)} supported", f"{len(self.contradicted)} contradicted{_named(self.contradicted)}"]
    parts.append(f"{len(self.undecided)} undecided{_named(self.undecided)}")
    rest = f" ({len(self.not_run)} not run)" if self.not_run else ""
    return (
      f"Of {counted(tested, 'pair')} of rows that the paper orders{rest}: {', '.join(parts)}; paired t-tests over "
      f"{len(self.seeds)} seeds with the residual variance of all rows, {LEVEL:.0%} over all pairs (Holm)."
    )


def paper_pairs(table: Table) -> list[Pair]:
  """Returns the pairs of a table's rows for which the paper has a higher metric of the first, `table.claims` or its values."""
  if table.claims:
    return list(table.claims)
  key = table.metric.metric
  known = [(row.name, float(row.paper[key])) for row in table.published if key in row.paper]
  return [(a, b) if x > y else (b, a) for (a, x), (b, y) in itertools.combinations(known, 2) if x != y]


def judge(table: Table, results: Sequence[RowResult]) -> Claims:
  """Tests the paper's order of rows with the results of a scale.

  Rows and seeds make a randomized block design: the residuals of a model with an effect of each row and of each seed give the
  variance of a paired difference. With two rows it is the paired t-test. Holm's method keeps the probability of any error.

  Args:
    table: the table.
    results: results of its rows.
  """
  values = {r.name: dict(zip(r.seeds, r.values, strict=True)) for r in results if r.values}
  pairs = paper_pairs(table)
  compared = {name for pair in pairs for name in pair if name in values}
  seeds = sorted(set.intersection(*(set(values[name]) for name in compared))) if compared else []
  # rows that share runs count once
  distinct = {(r.row.key, r.row.quantization): r.name for r in results if r.name in compared}
  if len(distinct) < 2 or len(seeds) < 2:
    return Claims(not_run=tuple(pairs))
  means = {name: float(np.mean([values[name][seed] for seed in seeds])) for name in compared}
  tested = [pair for pair in pairs if means.keys() >= set(pair)]
  certain = _certain(tested, means, _error([[values[name][seed] for seed in seeds] for name in distinct.values()]))
  found: Mapping[str, list[Pair]] = {"supported": [], "contradicted": [], "undecided": []}
  for higher, lower in tested:
    order = "supported" if means[higher] > means[lower] else "contradicted"
    found[order if (higher, lower) in certain else "undecided"].append((higher, lower))
  rest = tuple(pair for pair in pairs if pair not in tested)
  return Claims(**{name: tuple(listed) for name, listed in found.items()}, not_run=rest, seeds=tuple(seeds))


def _error(values: Sequence[Sequence[float]]) -> tuple[float, int]:
  """Returns the standard error of a paired difference of two rows' means, and its degrees of freedom."""
  x = np.array(values)
  residuals = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()
  freedom = (x.shape[0] - 1) * (x.shape[1] - 1)
  return math.sqrt(2 * float((residuals**2).sum()) / freedom / x.shape[1]), freedom


def _certain(pairs: Sequence[Pair], means: Mapping[str, float], error: tuple[float, int]) -> set[Pair]:
  """Returns the pairs whose means differ, by Holm's method."""
  deviation, freedom = error
  p = {}
  for a, b in pairs:
    difference = abs(means[a] - means[b])
    p[a, b] = 2 * float(stats.t.sf(difference / deviation, freedom)) if deviation else float(difference == 0)
  certain: set[Pair] = set()
  for rank, pair in enumerate(sorted(p, key=lambda pair: p[pair])):
    if p[pair] > LEVEL / (len(p) - rank):
      break
    certain.add(pair)
  return certain


def _named(pairs: Sequence[Pair]) -> str:
  """Formats the first pairs in brackets; "" without any."""
  if not pairs:
    return ""
  more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
  return f" ({'; '.join(f'{higher} above {lower}' for higher, lower in pairs[:NAMED])}{more})"
