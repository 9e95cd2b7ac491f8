"""Training steps and inference of this project beside stock Flax layers and timm on PyTorch, interleaved in one run.

python benchmarks/speed.py [--cases 64x32,224x16] [--networks mobilenetv3_small,...] [--torch-python PYTHON] [--out FILE.json]

Each contestant is a process of its own, compiled once; then each is measured in turn, for several rounds. Medians, quartiles
and the median of the ratios round by round are printed and written to FILE.json. A training step is forward, backward and
RMSProp with L2, float32 or bfloat16, on one batch that stays on the device.

--torch-python is a Python interpreter with torch and timm, if this one has none; without either, PyTorch is skipped with a
message.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mnv3_jax.architectures.spec import nearest

HERE = pathlib.Path(__file__).parent / "contestants"
NETWORKS = ("mobilenetv3_small", "mobilenetv3_large", "mobilenetv2", "mnasnet_a1")
# name: (file, additions to the case)
CONTESTANTS = {
  "ours": ("ours.py", {}),
  "stock Flax": ("stock_flax.py", {}),
  "PyTorch": ("pytorch.py", {}),
  "PyTorch, compiled": ("pytorch.py", {"compile": True}),
}
SECONDS = 0.7


class Contestant:
  """A running contestant: a process that executes a file of contestants/.

  Args:
    name: name in the results.
    file: name of the file in contestants/.
    case: case of the benchmark (contestants/protocol.py).
    python: path of the Python interpreter.
    ahead: number of calls that the contestant may have prefetched; as many are made before each measurement, unmeasured.
  """

  def __init__(self, name: str, file: str, case: Mapping[str, Any], python: str, ahead: int = 0) -> None:
    self.name, self.ahead = name, ahead
    self.process = subprocess.Popen(
      [python, str(HERE / file), json.dumps(case)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE if not os.environ.get("LOUD") else None,
      text=True,
      env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
    )
    first = self.process.stdout.readline()
    if not first:
      raise RuntimeError(f"{name} ended: {(self.process.stderr.read() or '').strip().splitlines()[-1:]}")
    self.about = json.loads(first)
    self.calls, self.seconds = 1, []
    self.calls = max(1, round(SECONDS / min(self.measure(), self.measure())))

  def measure(self) -> float:
    """Returns seconds of a call."""
    if self.ahead:
      self._seconds(self.ahead)
    return self._seconds(self.calls) / self.calls

  def _seconds(self, calls: int) -> float:
    print(calls, file=self.process.stdin, flush=True)
    return float(self.process.stdout.readline())

  def metrics(self, batch: int, reference: "Contestant") -> dict[str, Any]:
    """Returns the metrics over all rounds, for calls of `batch` images, with the ratio to the contestant `reference`."""
    low, median, high = np.percentile(self.seconds, (25, 50, 75)) * 1000
    return {
      "ms": round(median, 3),
      "ms_quartiles": [round(low, 3), round(high, 3)],
      "images_per_second": round(batch / median * 1000, 1),
      "times_ours": round(float(np.median(np.divide(self.seconds, reference.seconds))), 3),
      **self.about,
    }

  def close(self) -> float:
    """Ends the process and returns its peak memory in GiB."""
    self.process.stdin.close()
    memory = float(self.process.stdout.readline())
    self.process.wait()
    return memory


def pythons(given: argparse.Namespace) -> dict[str, str]:
  """Returns the Python interpreter by contestant, for those that can run here."""
  found = {}
  for name, (file, _) in CONTESTANTS.items():
    if name not in given.contestants:
      continue
    python = given.torch_python if file == "pytorch.py" else sys.executable
    if file == "pytorch.py" and subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
      print(f"{name} is skipped: {python} has no torch (give another with --torch-python)")
      continue
    found[name] = python
  return found


def compare(case: dict[str, Any], python_of: Mapping[str, str], rounds: int) -> dict[str, dict[str, Any]]:
  """Runs the contestants on one case and returns their metrics by name."""
  running = []
  try:
    for name, python in python_of.items():
      try:
        file, more = CONTESTANTS[name]
        running.append(Contestant(name, file, case | more, python))
      except RuntimeError as error:
        print(f"  {error}", flush=True)
    if "ours" not in [c.name for c in running]:
      raise SystemExit("ours, the reference of all ratios, did not start")
    if len({c.about["params"] for c in running}) > 1:
      raise SystemExit(f"contestants differ in parameters: {[(c.name, c.about['params']) for c in running]}")
    take_turns(running, rounds)
  finally:
    end(running)
  return {c.name: c.metrics(case["batch"], running[0]) for c in running}


def take_turns(running: Sequence[Contestant], rounds: int) -> None:
  """Measures the contestants in turn, for several rounds."""
  for _ in range(rounds):
    for contestant in running:
      contestant.seconds.append(contestant.measure())


def end(running: Sequence[Contestant]) -> None:
  """Ends contestants and adds their peak memory to their metrics."""
  for contestant in running:
    with contextlib.suppress(ValueError, OSError):
      contestant.about["peak_memory_gib"] = round(contestant.close(), 2)


def machine() -> dict[str, Any]:
  """Describes this machine."""
  model = platform.processor() or platform.machine()
  with contextlib.suppress(OSError):
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
  return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.system(), "python": platform.python_version()}


def write(path: pathlib.Path, results: list[dict[str, Any]]) -> None:
  """Writes results to a file, in which results of other cases from the same machine stay."""
  kept, cases = [], [r["case"] for r in results]
  with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
    before = json.loads(path.read_text())
    kept = [r for r in before["results"] if before["machine"] == machine() and r["case"] not in cases]
  written = {"date": str(datetime.date.today()), "machine": machine(), "results": kept + results}
  path.write_text(json.dumps(written, indent=1) + "\n")


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: milliseconds of ours, and the ratios of the others to it."""
  names = [n for n in CONTESTANTS if any(n in r["figures"] for r in results)]
  lines = ["| network | px | batch | | ours, ms | images/s | " + " | ".join(f"{n}, × ours" for n in names[1:]) + " |"]
  lines.append("|---" * (5 + len(names)) + "|")
  for r in results:
    case, metrics = r["case"], r["figures"]
    low, high = metrics["ours"]["ms_quartiles"]
    cells = [case["network"], case["resolution"], case["batch"], {"train": "training step"}.get(case["kind"], case["kind"])]
    cells += [f"{metrics['ours']['ms']:.1f} ({low:.1f} to {high:.1f})", f"{metrics['ours']['images_per_second']:,.0f}"]
    cells += [f"{metrics[n]['times_ours']:.2f}" if n in metrics else "" for n in names[1:]]
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def several(allowed: Iterable[str], by: str = ",") -> Callable[[str], list[str]]:
  """Returns an argparse type: a list of some of `allowed`."""

  def parse(text: str) -> list[str]:
    names = text.split(by)
    for name in names:
      if name not in allowed:
        raise argparse.ArgumentTypeError(f"invalid value {name!r}; {nearest(name, allowed)}")
    return names

  return parse


def cases(text: str) -> list[tuple[int, int]]:
  """Parses 64x32,224x16 as [(64, 32), (224, 16)] (argparse type)."""
  found = re.findall(r"(?:^|,)(\d+)x(\d+)(?=,|$)", text)
  if len(found) != text.count(",") + 1:
    raise argparse.ArgumentTypeError(f"invalid value {text!r}; expected RESOLUTIONxBATCH, such as 64x32,224x16")
  return [(int(resolution), int(batch)) for resolution, batch in found]


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--networks", type=several(NETWORKS), default=NETWORKS, help="separated by commas")
  options.add_argument("--cases", type=cases, default="64x32,224x16", help="resolution x batch, separated by commas")
  options.add_argument("--kinds", type=several(("train", "inference")), default="train,inference")
  options.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  options.add_argument("--rounds", type=int, default=9)
  options.add_argument(
    "--contestants", type=several(CONTESTANTS, ";"), default=";".join(CONTESTANTS), help="separated by semicolons, ours first"
  )
  options.add_argument("--torch-python", default=sys.executable)
  options.add_argument("--out", type=pathlib.Path, help="JSON to write; other cases that it has stay")
  given = options.parse_args()
  python_of, results = pythons(given), []
  for network in given.networks:
    for kind in given.kinds:
      for resolution, batch in given.cases:
        case = {"network": network, "kind": kind, "resolution": resolution, "batch": batch, "dtype": given.dtype}
        print(f"{network}, {kind}, {resolution} px, batch {batch} ...", file=sys.stderr, flush=True)
        results.append({"case": case, "figures": compare(case, python_of, given.rounds)})
        print("  " + ", ".join(f"{n} {f['ms']:.1f} ms" for n, f in results[-1]["figures"].items()), file=sys.stderr, flush=True)
        if given.out:
          write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
