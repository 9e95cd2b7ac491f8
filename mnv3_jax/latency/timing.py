"""Latency of .tflite files on this host, following the protocol of phones: batch 1, fixed number of threads, warm, interleaved.

Files to be compared are timed in one run, a few invocations of each in turn, so that a machine that slows down or warms up
does so for all of them.
"""

import dataclasses
import os
import pathlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float

from mnv3_jax.export.runtime import TFLiteModel

# invocations of one file in a round: measured ones, and preceding ones that bring its weights back into the caches (the first
# takes up to 2.4 times as long as the tenth)
BLOCK, LEAD = 10, 3

# above one of these a machine is reported as noisy. On two idle cores MobileNetV3 has a spread of 3 to 9 % and medians repeat
# to 3 %; beside other processes medians of the same file are up to 8 times as long, mostly with a spread of 12 to 300 %, but
# also of 1 % where every invocation is preempted once, which only the share of preemption shows.
MAX_SPREAD, MAX_PREEMPTED = 0.1, 0.05

# flags of /proc/cpuinfo, x86's and ARM's, of which the first that a processor has is named
INSTRUCTIONS = {
  "avx512_vnni": "AVX-512 VNNI",
  "avx_vnni": "AVX-VNNI",
  "avx512f": "AVX-512",
  "avx2": "AVX2",
  "asimddp": "dot products",
}

# callback with the number of invocations done and the total
OnProgress: TypeAlias = Callable[[int, int], object]
# milliseconds of single invocations, one array for each round
Rounds: TypeAlias = Sequence[Float[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class LatencyStats:
  """Statistics of single invocations of a file.

  Attributes:
    median_ms: median in milliseconds.
    p25_ms, p75_ms: quartiles in milliseconds; None for an Android device, whose tool does not print them.
    runs: number of measured invocations.
    threads: number of threads of the runtime.
  """

  median_ms: float
  p25_ms: float | None
  p75_ms: float | None
  runs: int
  threads: int

  @property
  def spread(self) -> float | None:
    """Interquartile range relative to the median; None without quartiles."""
    if self.p25_ms is None or self.p75_ms is None:
      return None
    return (self.p75_ms - self.p25_ms) / self.median_ms


@dataclasses.dataclass(frozen=True)
class Ratio:
  """Latency of a file divided by that of a reference.

  Attributes:
    median, p25, p75: statistics of the ratios of single rounds, in which both are timed in close succession. For an Android
      device, whose tool times one file after the other, the quartiles are None and the median is the ratio of the medians.
    of_medians: ratio of the medians over all rounds.
  """

  median: float
  p25: float | None
  p75: float | None
  of_medians: float


@runtime_checkable
class Device(Protocol):
  """Device that times .tflite files: Host, or latency.android.AndroidDevice."""

  def describe(self) -> dict[str, Any]:
    """Returns {"device", "runtime", "threads", "kind", ...}; latencies with equal descriptions are comparable."""
    ...

  def measure(
    self, files: Mapping[str, bytes], runs: int, warmup: int = ..., on_progress: OnProgress | None = None
  ) -> Mapping[str, LatencyStats]:
    """Times .tflite files by name with `runs` measured invocations each."""
    ...


def ratio(rounds: Rounds, reference: Rounds) -> Ratio:
  """Returns the Ratio of a file to a reference, given the rounds of both from one call of Host.rounds."""
  paired = [np.median(a) / np.median(b) for a, b in zip(rounds, reference, strict=True)]
  p25, median, p75 = (float(p) for p in np.percentile(paired, (25, 50, 75)))
  of_medians = np.median(np.concatenate(rounds)) / np.median(np.concatenate(reference))
  return Ratio(median=median, p25=p25, p75=p75, of_medians=float(of_medians))


class Host:
  """This machine: the LiteRT interpreter with XNNPACK.

  Args:
    threads: number of threads of the runtime.

  Attributes:
    preempted: share of the last measurement's time in which other processes had the processor of the calling thread; None
      before the first measurement, and 0 with several threads, where it cannot be measured.
  """

  def __init__(self, threads: int = 1) -> None:
    self.threads = threads
    self.preempted: float | None = None

  def describe(self) -> dict[str, Any]:
    """Returns {"device", "runtime", "threads", "kind"}."""
    runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}, XNNPACK"
    return {"device": processor(), "runtime": runtime, "threads": self.threads, "kind": "host"}

  def measure(
    self, files: Mapping[str, bytes], runs: int, warmup: int = 10, on_progress: OnProgress | None = None
  ) -> dict[str, LatencyStats]:
    """Times .tflite files, interleaved.

    Args:
      files: contents by name. All are loaded at once: two to three times their size in memory.
      runs: number of measured invocations of each file.
      warmup: number of invocations of each file before the first round.
      on_progress: called with (done, total) invocations after each block.

    Returns:
      statistics by name.

    Raises:
      UsageError: if the runtime cannot load a file.
    """
    return {name: self.stats(rounds) for name, rounds in self.rounds(files, runs, warmup, on_progress).items()}

  def rounds(
    self, files: Mapping[str, bytes], runs: int, warmup: int = 10, on_progress: OnProgress | None = None
  ) -> dict[str, list[Float[np.ndarray, "..."]]]:
    """Returns milliseconds of single invocations by name, one array for each round; arguments as of `measure`."""
    models = {name: TFLiteModel(content, self.threads, repr(name)) for name, content in files.items()}
    for model in models.values():
      model.set_random_inputs()
      for _ in range(warmup):
        model.interpreter.invoke()
    rng, times, done, busy, elapsed = np.random.default_rng(0), {name: [] for name in files}, 0, 0.0, 0.0
    # rounds of equal length: a last round of one invocation would weigh as much as the others in a ratio
    for part in np.array_split(np.arange(runs), -(-runs // BLOCK)):
      for i in rng.permutation(len(files)):
        name = list(files)[i]
        busy_before, before = time.thread_time(), time.perf_counter()
        times[name].append(_block(models[name].interpreter.invoke, len(part)))
        busy, elapsed = busy + time.thread_time() - busy_before, elapsed + time.perf_counter() - before
        done += len(part)
        if on_progress:
          on_progress(done, runs * len(files))
    # a thread that waits for others of its own runtime is not preempted
    self.preempted = max(0.0, 1 - busy / elapsed) if self.threads == 1 else 0.0
    return times

  def stats(self, rounds: Rounds) -> LatencyStats:
    """Returns the statistics of one file over all its rounds."""
    p25, median, p75 = (float(p) for p in np.percentile(np.concatenate(rounds), (25, 50, 75)))
    return LatencyStats(median_ms=median, p25_ms=p25, p75_ms=p75, runs=sum(map(len, rounds)), threads=self.threads)


def _block(invoke: Callable[[], object], n: int) -> Float[np.ndarray, " n"]:
  for _ in range(LEAD):
    invoke()
  times = [time.perf_counter()]
  for _ in range(n):
    invoke()
    times.append(time.perf_counter())
  return 1e3 * np.diff(times)


def processor(info: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> str:
  """Returns the processor's name, its vector instructions and the number of cores.

  Processors of one name can differ in their instructions, and by these in latency: on one "AMD EPYC" int8 files take half the
  time of float32, on another, which has AVX2 alone, as long.
  """
  lines = info.read_text("utf-8").splitlines() if info.is_file() else []
  fields: dict[str, str] = {}
  for name, value in (line.split(":", 1) for line in lines if ":" in line):
    fields.setdefault(name.strip(), value.strip())
  flags = set((fields.get("flags") or fields.get("Features") or "").split())
  vectors = next((f" ({name})" for flag, name in INSTRUCTIONS.items() if flag in flags), "")
  cores = os.cpu_count() or 1
  name = fields.get("model name") or platform.processor() or platform.machine()
  return f"{name}{vectors}, {cores} core{'s' * (cores > 1)}"
