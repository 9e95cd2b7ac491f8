"""The paper's order of rows: the test of it, and the sentence."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from mnv3_jax.errors import UsageError
from mnv3_jax.tables.paper_order import judge, paper_pairs
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.table import Row, Table

NAMES = ("a", "b", "c", "d")


def table(*paper, **fields):
  rows = tuple(
    Row(name=name, model="mobilenetv3_small", run=name, fields={"width": 1 + i / 8}, paper={"top1": text} if text else {})
    for i, (name, text) in enumerate(zip(NAMES, paper, strict=False))
  )
  return Table(title="t", source="s", rows=rows, **fields)


def judged(of, *values, seeds=None):
  rows = [
    RowResult(row=row, values=tuple(v), seeds=tuple(seeds or range(len(v)))) for row, v in zip(of.rows, values, strict=True)
  ]
  return judge(of, rows)


def test_two_rows_are_the_paired_t_test():
  rng, certain = np.random.default_rng(0), []
  for gap in np.linspace(0.0, 4.0, 60):
    x = rng.normal(70, 3, 4) + np.array([[gap], [0.0]]) + rng.normal(0, 1, (2, 4))
    p, found = stats.ttest_rel(*x).pvalue, judged(table("75", "70"), *x)
    assert (p <= 0.05) == (not found.undecided)
    certain.append(p <= 0.05)
    if p <= 0.05:
      assert bool(found.supported) == (x[0].mean() > x[1].mean())
  assert 5 < sum(certain) < 55


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.floats(-20, 20))
def test_what_all_rows_of_a_seed_share_does_not_count(effects, shift):
  x = np.array([[70.1, 71.4, 69.9], [68.0, 69.2, 68.1], [69.0, 70.9, 69.1]])
  assert judged(table("3", "1", "2"), *x) == judged(table("3", "1", "2"), *(x + np.round(effects, 3) + round(shift, 3)))


def test_each_pair_is_sorted_in():
  x = [[70.0, 70.4, 70.2], [75.0, 75.3, 75.1], [60.0, 60.5, 60.2], [60.1, 60.4, 60.2]]
  found = judged(table("72", "71", "65", "64"), *x)
  assert found.contradicted == (("a", "b"),) and found.undecided == (("c", "d"),)
  assert set(found.supported) == {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")} and not found.not_run
  assert str(found) == (
    "Of 6 pairs of rows that the paper orders: 4 supported, 1 contradicted (a above b), 1 undecided (c above d); paired "
    "t-tests over 3 seeds with the residual variance of all rows, 5% over all pairs (Holm)."
  )


def test_many_equal_rows_are_rarely_told_apart():
  """In a tenth of the tables of equal rows at most, where single tests of six pairs would find one in a fifth."""
  rng = np.random.default_rng(1)
  wrong = sum(
    bool(c.supported + c.contradicted) for c in (judged(table(*"4321"), *rng.normal(70, 1, (4, 3))) for _ in range(300))
  )
  assert wrong <= 30


def test_rows_without_runs_and_without_paper_values():
  found = judged(table("72", "71", "65", None), [70.0, 70.4], [60.0, 60.5], [], [1.0, 2.0])
  assert found.supported == (("a", "b"),) and set(found.not_run) == {("a", "c"), ("b", "c")}
  assert "Of 1 pair of rows that the paper orders (2 not run): 1 supported" in str(found)
  # one seed, or none in common, or one row
  for values in (([70.0], [60.0]), ([70.0, 71.0], [])):
    found = judged(table("72", "71"), *values)
    assert found.not_run == (("a", "b"),) and str(found) == ""
  assert paper_pairs(table("72", "72", None)) == []


def test_equal_residuals_are_no_error_of_zero_by_zero():
  found = judged(table("72", "71", "70"), [70.0, 71.0], [60.0, 61.0], [60.0, 61.0])
  assert set(found.supported) == {("a", "b"), ("a", "c")} and found.undecided == (("b", "c"),)


def test_claims_in_words_replace_the_printed_metric():
  of = table("72", "71", claims=(("b", "a"),))
  assert paper_pairs(of) == [("b", "a")]
  with pytest.raises(UsageError, match=r"t: invalid row 'e' in claims; expected a row with a network, "):
    table("72", "71", claims=(("a", "e"),))


def test_the_residual_variance_is_that_of_all_rows():
  """A row that varies more makes the others less certain."""
  quiet = [[70.0, 70.4, 70.2], [69.0, 69.5, 69.1]]
  assert judged(table("72", "71"), *quiet).supported
  found = judged(table("72", "71", "60"), *quiet, [50.0, 58.0, 41.0])
  assert found.undecided == (("a", "b"),) and set(found.supported) == {("a", "c"), ("b", "c")}


def test_rows_that_share_runs_count_once():
  rows = table("72", "71", "60").rows
  again = dataclasses.replace(rows[0], name="a again")
  x = [[70.0, 70.4, 70.2], [69.0, 69.5, 69.1], [50.0, 50.8, 50.1]]
  once = judged(Table(title="t", source="s", rows=rows), *x)
  # twice the same run is no second measurement of the residual variance
  twice = judged(Table(title="t", source="s", rows=(*rows, again)), *x, x[0])
  assert {pair for pair in twice.undecided if "a again" not in pair} == set(once.undecided)
  shared = Table(title="t", source="s", rows=(rows[0], again), claims=(("a", "a again"),))
  assert judged(shared, x[0], x[0]).not_run == (("a", "a again"),)
