"""Images that the hosts of TPU slices have to read, by the estimates of accelerators.py, beside the rates of pipeline.py.

python benchmarks/host_input.py

It measures and compiles nothing: the kept results of both are read, and the table is printed.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import accelerators

from mnv3_jax.accelerators.host_input import HostInput
from mnv3_jax.accelerators.hosts import machine_of
from mnv3_jax.accelerators.topologies import parse_topology

PIPELINE = pathlib.Path(__file__).parent / "results" / "pipeline_cpu.json"
# of accelerators.CASES, those that read photographs as pipeline.py does
CASES = ("small", "large")
HEAD = ("config", "slice", "hosts", "augmentation", "images/s a core, measured", "verdict")


def rates(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Returns the images per second and core of our pipeline by augmentation, with the most cores that were measured."""
  most = max(len(r["case"]["cores"]) for r in results)
  return {
    r["case"]["augment"]: r["figures"]["ours"]["images_per_second"] / most for r in results if len(r["case"]["cores"]) == most
  }


def table() -> str:
  """Formats the kept results as Markdown: a verdict for each config and augmentation."""
  found = rates(json.loads(PIPELINE.read_text())["results"])
  lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
  for r in json.loads(accelerators.OUT.read_text()):
    if r["case"] in CASES:
      machine = machine_of(parse_topology(r["topology"], r["slices"]), r["processes"])
      assert machine, r["topology"]
      for augment, rate in found.items():
        verdict = HostInput(r["images_per_second"] / r["processes"], machine.name, machine.vcpus, rate)
        cells = (f"`{r['config']}`", r["topology"], r["processes"], augment, f"{rate:,.0f}", verdict)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table with the machine and the versions of both."""
  pipeline, compiled = json.loads(PIPELINE.read_text()), json.loads(accelerators.OUT.read_text())
  machine = pipeline["machine"]
  measured = f"Pipeline: {machine['cores']} cores of {machine['cpu']}, {pipeline['date']}."
  return f"{table()}\n\n{measured} Images/s a host: estimates of XLA, {accelerators.versions(compiled)}.\n"


if __name__ == "__main__":
  print(section())
