"""Memory that a process frees stays with it: large arrays that come and go take no new pages."""

import platform
import subprocess
import sys

# pages that the system clears for ten arrays of 100 MB, after the first, and the peak of memory
PROGRAM = """
import resource, sys
import numpy as np
from mnv3_jax.memory import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
np.ones(12_500_000).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
  np.ones(12_500_000).sum()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(kept, usage.ru_minflt - before, usage.ru_maxrss)
"""


def faults(how):
  done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
  kept, number, peak = done.stdout.split()
  return kept == "True", int(number), int(peak)


def test_arrays_take_no_new_pages():
  (kept, few, peak), (_, many, peak_before) = faults("kept"), faults("returned")
  # elsewhere nothing changes, and the function says so
  glibc = platform.libc_ver()[0] == "glibc"
  assert kept == glibc and peak < 1.2 * peak_before
  assert few < many / 10 or not glibc
