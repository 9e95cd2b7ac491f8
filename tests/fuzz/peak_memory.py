"""Peak memory of this process."""

import pathlib
import re
import resource
import sys


def peak_megabytes():
  """Returns the peak of this program; getrusage has the process before exec in it, on Linux: pytest's, by gigabytes."""
  if sys.platform == "linux":
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
