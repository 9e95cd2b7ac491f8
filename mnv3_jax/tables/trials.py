"""A table as the list of runs that it needs."""

import pathlib

from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.tables import scales, speed


def trials(tables, runs, scale, seeds=None, words=()):
  """The Trials of tables: one for each network and seed, with the 8-bit files that rows want of it.

  Args:
    tables: Tables; what several of them need is there once.
    runs: folder of all runs.
    scale: a Scale.
    seeds: of each row; None: as many as the scale has.
    words: overrides of every run.
  """
  rows = {}
  for table in tables:
    for row in table.published:
      rows.setdefault(row.key, []).append(row)
  plan = scales.check(scale, words).train
  known, found = speed.recorded(runs, scale), []
  # the first seed of every row before the second of any: a table that was stopped has all rows
  for seed in range(seeds or scale.seeds):
    for key, same in rows.items():
      lines = scales.commands(runs, scale, same, seed, words)
      found.append(
        Trial(
          name=f"{key}/seed_{seed}",
          directory=pathlib.Path(scales.directory(runs, scale, same[0], seed)),
          commands=tuple(line for line, _ in lines),
          results=tuple(result for _, result in lines),
          hours=speed.hours(known, scale.architecture(same[0]), same[0].key, 0 if plan.steps else plan.epochs),
        )
      )
  return found
