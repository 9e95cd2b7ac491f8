"""Protocol between speed.py and a contestant: a process of its own, possibly of another Python.

After compilation the contestant prints its description as a line of JSON. Each line of its input is a number of calls; it makes
them and prints the seconds that they took. At the end of its input it prints its peak memory.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def read_case() -> dict[str, Any]:
  """Returns the case of the command line: {"network", "kind": "train" or "inference", "resolution", "batch", "dtype", ...}."""
  return json.loads(sys.argv[1])


def serve(call: Callable[[], object], wait: Callable[[], object], **about: Any) -> None:
  """Measures calls until the end of the input.

  Args:
    call: starts one step, or the logits of one batch; may return before it is done.
    wait: returns when all calls are done.
    **about: description of the contestant, printed first.
  """
  # output of libraries goes to standard error
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
