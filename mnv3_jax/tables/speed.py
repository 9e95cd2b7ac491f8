"""How long a run will take, from runs that are done."""

import json
import pathlib
import statistics

from mnv3_jax.architectures import cost

# of the same scale, kept with this project: where nothing was run yet
KEPT = pathlib.Path(__file__).parent.parent.parent / "experiments" / "results"


def recorded(runs, scale):
  """{key of a row: [(seconds of an epoch, madds of one image)]} of runs of a scale, in RUNS or else those kept here."""
  for folder in (pathlib.Path(runs), KEPT):
    found = {}
    for file in (folder / scale.folder).glob("*/seed_*/result.json"):
      try:
        result = json.loads(file.read_text())
        seconds, epochs = float(result["seconds"]), float(result["epochs"])
        found.setdefault(file.parent.parent.name, []).append((seconds / epochs, int(result["madds"])))
      except (ValueError, KeyError, TypeError):
        # whoever reads it as a result says that it is damaged
        continue
    if found:
      return found
  return {}


def hours(known, architecture, key, epochs):
  """Hours of a run: those of the same row's, or of others by their multiply-adds; None where nothing was recorded.

  Args:
    known: of `recorded`.
    architecture: the network of the run.
    key: of its row.
    epochs: of the run; 0: it is told in steps.
  """
  if not known or not epochs:
    return None
  if key in known:
    return statistics.median(seconds for seconds, _ in known[key]) * epochs / 3600
  pace = statistics.median(seconds / madds for runs in known.values() for seconds, madds in runs)
  return pace * cost.madds(architecture) * epochs / 3600
