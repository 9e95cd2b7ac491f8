"""Timing of whole networks during a search with NetAdapt, which corrects the drift of latencies that a table predicts."""

import statistics
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.export.tflite import convert_float
from mnv3_jax.latency.latency_table import steady_ms
from mnv3_jax.latency.timing import Device
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network

# rounds, and invocations of each file in a round. Both files are loaded anew in every round: where weights happen to lie in
# memory makes up to 8 % of a file's time.
ROUNDS, RUNS = 9, 20


class Retiming:
  """Timing of networks relative to the seed of a search.

  Args:
    seed: network that the search began with.
    device: device that times.
    every: number of steps after which the present network is timed; 0 for the end of the search alone.
  """

  def __init__(self, seed: Architecture, device: Device, every: int) -> None:
    self.seed, self.device, self.every = seed, device, every
    self._seed_file: bytes | None = None

  def due(self, step: int) -> bool:
    """Returns whether the network after a step is timed, wherever the search is."""
    return self.every > 0 and step % self.every == 0

  def measure(self, architecture: Architecture, predicted_ratio: float) -> dict[str, Any]:
    """Times a network and the seed as whole .tflite files with random weights, in turn.

    Args:
      architecture: the network.
      predicted_ratio: its latency divided by the seed's, as the table predicts both.

    Returns:
      The content of timing.json: medians over the rounds "seed_ms", "network_ms" and "ratio" (of a round's latencies), the
      "ratios" of all rounds, "predicted_ratio", and "drift", ratio / predicted_ratio.
    """
    self._seed_file = self._seed_file or _whole_file(self.seed)
    files = {"seed": self._seed_file, "network": _whole_file(architecture)}
    rounds = [{name: steady_ms(stats) for name, stats in self.device.measure(files, RUNS).items()} for _ in range(ROUNDS)]
    ratios = [one["network"] / one["seed"] for one in rounds]
    ratio = statistics.median(ratios)
    return {
      "seed_ms": statistics.median(one["seed"] for one in rounds),
      "network_ms": statistics.median(one["network"] for one in rounds),
      "ratio": ratio,
      "ratios": ratios,
      "predicted_ratio": predicted_ratio,
      "drift": ratio / predicted_ratio,
    }


def _whole_file(architecture: Architecture) -> bytes:
  """Returns the .tflite file of a network with random weights, on which latency does not depend."""
  return convert_float(architecture, initialize(network(architecture), 0))
