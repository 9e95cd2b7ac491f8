"""Latency of .tflite files on this host, as phones are measured: batch 1, a fixed number of threads, warm, and interleaved.

Files that are compared are timed in one run, a few invocations of each in turn, so that a machine that slows down or warms up
does so for all of them.
"""

import dataclasses
import os
import pathlib
import platform
import time
from importlib import metadata

import numpy as np

from mnv3_jax.export.runtime import Network

# invocations of one file in a round: those that count, and those that go first and bring its weights back into the caches (the
# first one takes up to 2.4 times as long as the tenth)
BLOCK, LEAD = 10, 3

# above these the machine is called noisy. On two idle cores MobileNetV3 has a spread of 3 to 9 % and medians repeat to 3 %;
# beside other processes medians of the same file are up to 8 times as long, mostly with a spread of 12 to 300 %, but also of
# 1 % where every invocation waits once for its turn, which only the time off the processor shows.
SPREAD, WAITED = 0.1, 0.05


@dataclasses.dataclass(frozen=True)
class Latency:
  """Milliseconds of single invocations: median and quartiles over `runs`, with `threads` threads.

  The quartiles are None where a device's own tool does not print them (latency/android.py).
  """

  median_ms: float
  p25_ms: float | None
  p75_ms: float | None
  runs: int
  threads: int

  @property
  def spread(self):
    """Distance of the quartiles, relative to the median; None without quartiles."""
    return None if self.p25_ms is None else (self.p75_ms - self.p25_ms) / self.median_ms


@dataclasses.dataclass(frozen=True)
class Ratio:
  """A file's time divided by a reference's.

  Attributes:
    median, p25, p75: of the ratios of single rounds, in which both are timed one soon after the other; the quartiles are None
      where a device's tool times one file after the other, and the median is then that of the medians.
    of_medians: ratio of the medians over all rounds.
  """

  median: float
  p25: float | None
  p75: float | None
  of_medians: float


def ratio(rounds, reference):
  """The Ratio of a file to a reference: both are lists of arrays, one for each round, as Host.rounds gives them."""
  paired = [np.median(a) / np.median(b) for a, b in zip(rounds, reference, strict=True)]
  p25, median, p75 = (float(p) for p in np.percentile(paired, (25, 50, 75)))
  of_medians = np.median(np.concatenate(rounds)) / np.median(np.concatenate(reference))
  return Ratio(median=median, p25=p25, p75=p75, of_medians=float(of_medians))


class Host:
  """This machine: the LiteRT interpreter with XNNPACK.

  Args:
    threads: of the runtime.

  Attributes:
    waited: share of the last measurement's time in which other processes had the processor of the calling thread; None before,
      and 0 with several threads, where that cannot be told.
  """

  def __init__(self, threads=1):
    self.threads = threads
    self.waited = None

  def describe(self):
    """What was measured on: {"device", "runtime", "threads", "kind"}."""
    runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}, XNNPACK"
    return {"device": processor(), "runtime": runtime, "threads": self.threads, "kind": "host"}

  def measure(self, files, runs, warmup=10, heard=None):
    """Times files, interleaved.

    Args:
      files: {name: bytes of a .tflite file}. All are loaded at once: two to three times their size in memory.
      runs: invocations of each that count.
      warmup: invocations of each, before the first round, that do not.
      heard: called with (done, total) invocations after each block.

    Returns:
      {name: Latency}.

    Raises:
      UsageError: if the runtime cannot load a file.
    """
    return {name: self.latency(rounds) for name, rounds in self.rounds(files, runs, warmup, heard).items()}

  def rounds(self, files, runs, warmup=10, heard=None):
    """The single times behind `measure`: {name: [one array of milliseconds for each round]}; arguments as there."""
    networks = {name: Network(content, self.threads, repr(name)) for name, content in files.items()}
    for network in networks.values():
      _fill(network.interpreter)
      for _ in range(warmup):
        network.interpreter.invoke()
    rng, times, done, busy, passed = np.random.default_rng(0), {name: [] for name in files}, 0, 0.0, 0.0
    # as equal as can be: a last round of one invocation would weigh as much as the others in a ratio
    for part in np.array_split(np.arange(runs), -(-runs // BLOCK)):
      for name in rng.permutation(list(files)):
        began = time.thread_time(), time.perf_counter()
        times[name].append(_block(networks[name].interpreter.invoke, len(part)))
        busy, passed = busy + time.thread_time() - began[0], passed + time.perf_counter() - began[1]
        done += len(part)
        if heard:
          heard(done, runs * len(files))
    # a thread that waits for others of its own runtime is not kept from the processor
    self.waited = max(0.0, 1 - busy / passed) if self.threads == 1 else 0.0
    return times

  def latency(self, rounds):
    """The Latency of one file's rounds."""
    p25, median, p75 = (float(p) for p in np.percentile(np.concatenate(rounds), (25, 50, 75)))
    return Latency(median_ms=median, p25_ms=p25, p75_ms=p75, runs=sum(map(len, rounds)), threads=self.threads)


def _block(invoke, n):
  for _ in range(LEAD):
    invoke()
  at = [time.perf_counter()]
  for _ in range(n):
    invoke()
    at.append(time.perf_counter())
  return 1e3 * np.diff(at)


def _fill(interpreter):
  """Gives every input random values: in [-1, 1], or any that an integer type has."""
  rng = np.random.default_rng(0)
  for tensor in interpreter.get_input_details():
    kind, shape = np.dtype(tensor["dtype"]), tensor["shape"]
    if kind.kind in "iu":
      x = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    else:
      x = rng.uniform(-1, 1, shape).astype(kind)
    interpreter.set_tensor(tensor["index"], x)


def processor():
  """The processor's name and number of cores."""
  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.is_file() else []
  names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
  cores = os.cpu_count()
  return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} core{'s' * (cores > 1)}"
