"""A search from the tiny network: `tiny_search.py WORKDIR [--kill N]` makes it, alone or together with other processes.

--kill N: the process kills itself with SIGKILL in its Nth evaluation, before it writes anything.
"""

import functools
import os
import signal
import sys

from tiny_run import tiny_config, tiny_job

from mnv3_jax.architectures import cost
from mnv3_jax.models.initialize import initialize
from mnv3_jax.search.adaptation import Adaptation, Settings
from mnv3_jax.search.directory import SearchDirectory
from mnv3_jax.training.trained import TrainedRun


def milliseconds(architecture):
  """A latency that falls with every channel; cutting 8 of the tiny network's saves less than a hundredth."""
  return 100 + cost.madds(architecture) * 1e-4


def seed_run(**changes):
  """The tiny network with random weights and wider rows, as a run that was trained."""
  config = tiny_config(**{"data.train_split": "train[:100]", **changes})
  job = tiny_job(config)
  return TrainedRun(config, job, initialize(job.model, 0), "raw", 18, "nowhere")


def search_parts():
  """What all searches share: seed, data set, settings."""
  seed = seed_run()
  ms = milliseconds(seed.architecture)
  settings = Settings(target_ms=0.975 * ms, delta_ms=0.004 * ms, steps=2, learning_rate=1e-3, criterion="ratio")
  return seed, seed.dataset.eval_on_train(16), settings


def search(parts, path, lines=None, latency=milliseconds, **options):
  seed, dataset, settings = parts
  say = [].append if lines is None else lines.append
  return Adaptation(seed, dataset, latency, settings, SearchDirectory(path), say, **options)


def choices(result):
  """A result without what differs from one search to the next."""
  steps = [{name: value for name, value in step.items() if name != "seconds"} for step in result["steps"]]
  return {**{n: v for n, v in result.items() if n not in ("seconds", "compilations")}, "steps": steps}


def main(workdir, *words):
  """Runs the command line."""
  one = search(search_parts(), workdir)
  evaluations, real, last = 0, one.training.evaluate, int(words[1]) if words else 0

  @functools.wraps(real)
  def evaluate(*arguments):
    nonlocal evaluations
    evaluations += 1
    if evaluations == last:
      os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

  one.training.evaluate = evaluate
  one.run()


if __name__ == "__main__":
  main(*sys.argv[1:])
