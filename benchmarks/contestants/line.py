"""How speed.py talks with a contestant: a process of its own, which may be another Python's.

The contestant prints a line of JSON about itself when it has compiled; then every line that it reads is a number of calls,
which it makes and answers with the seconds that they took; at the end of its input it prints its peak memory.
"""

import json
import resource
import sys
import time


def read_case():
  """The case that speed.py gave: {"network", "kind": "train" or "inference", "resolution", "batch", "dtype", ...}."""
  return json.loads(sys.argv[1])


def serve(call, wait, **about):
  """Answers until the end of the input.

  Args:
    call: makes one step, or one batch's logits; may return before it is done.
    wait: returns when all calls are done.
    about: what the first line says.
  """
  # what a library prints must not come between
  answers, sys.stdout = sys.stdout, sys.stderr
  began = time.perf_counter()
  for _ in range(3):
    call()
    wait()
  about["warm_up_s"] = round(time.perf_counter() - began, 2)
  print(json.dumps(about), file=answers, flush=True)
  for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line)):
      call()
    wait()
    print(time.perf_counter() - began, file=answers, flush=True)
  print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, file=answers, flush=True)
