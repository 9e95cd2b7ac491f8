"""Fuzz target: .tflite files, as benchmark, its profile and report read them."""

import collections
import pathlib
import random
import resource
import sys
import time
import traceback

from fuzzing import mutated_bytes

from mnv3_jax.errors import UsageError
from mnv3_jax.export import graph
from mnv3_jax.export.probe import probe
from mnv3_jax.export.runtime import IDENTIFIER, TFLiteModel

FIELD = pathlib.Path(__file__).parents[1] / "data" / "field"
SEEDS = ("batch", "dynamic", "embedding", "loop", "many", "no_input", "sigs", "tokens", "variable")
# files that one child process tries
TOGETHER = 40


def main(seed, seconds):
  rng, ends, began = random.Random(seed), collections.Counter(), time.monotonic()
  originals = [(FIELD / f"{name}.tflite").read_bytes() for name in SEEDS]
  while time.monotonic() - began < seconds:
    contents = {f"file {i}": mutated_bytes(rng, rng.choice(originals), start=8) for i in range(TOGETHER)}
    contents = {name: content for name, content in contents.items() if content[4:8] == IDENTIFIER}
    shape = rng.choice((None, None, (1, 8, 8, 3), (2, 3)))
    failed = probe(contents, shape, timeout=5.0, checks=("run", "profile"))
    for name, content in contents.items():
      if name in failed:
        assert 10 < len(failed[name]) < 1000, failed[name]
        crashed = "crashes" in failed[name] or "finish" in failed[name]
        ends["crash" if crashed else "usage error"] += 1
        continue
      try:
        # as this process does after the child has
        model = TFLiteModel(content, name=name, shape=shape)
        model.set_random_inputs()
        graph.operators(model.content)
        ends["runs"] += 1
      except UsageError:
        ends["usage error"] += 1
      except BaseException:
        print(f"seed {seed}: {content.hex()}")
        traceback.print_exc()
        sys.exit(1)
  megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
  assert megabytes < 6000, (seed, megabytes)
  print(dict(ends), f"{megabytes:.0f} MB")


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]))
