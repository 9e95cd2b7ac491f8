"""Latency of a .tflite file on this host, as phones are measured: batch 1, a fixed number of threads, warm."""

import dataclasses
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Latency:
  """Milliseconds of single invocations: median and quartiles over `runs`, with `threads` threads."""

  median_ms: float
  p25_ms: float
  p75_ms: float
  runs: int
  threads: int


def measure(network, runs, threads, warmup=10):
  """Times `runs` invocations of a runtime.Network after `warmup` that do not count; its input is random in [-1, 1]."""
  rng = np.random.default_rng(0)
  network.interpreter.set_tensor(network.input["index"], rng.uniform(-1, 1, network.input_shape).astype(network.input["dtype"]))
  seconds = []
  for _ in range(warmup + runs):
    began = time.perf_counter()
    network.interpreter.invoke()
    seconds.append(time.perf_counter() - began)
  p25, median, p75 = 1e3 * np.percentile(seconds[warmup:], (25, 50, 75))
  return Latency(median_ms=float(median), p25_ms=float(p25), p75_ms=float(p75), runs=runs, threads=threads)
