"""Trainings compiled for a GPU that is not there: every network and head, whether it compiles, and its memory.

python benchmarks/gpu_compile.py [--cases mobilenetv3_small,...] [--out FILE.json]

The compiler must be installed (make gpu-compile does it); it estimates no times. Ends with status 1 if one does not compile.
"""

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from accelerators import keep, versions

import mnv3_jax

OUT = pathlib.Path(__file__).parent / "results" / "gpu_compile.json"
TOPOLOGY = "h100:1"
NETWORKS = ("mobilenetv3_small", "mobilenetv3_large", "mobilenetv2", "mobilenetv1", "mnasnet_a1")
# name: (config, fields, images)
CASES: dict[str, tuple[str, dict[str, object], int]] = {
  **{network: (f"imagenet:{network}", {"model.dtype": "bfloat16"}, 256) for network in NETWORKS},
  "lr_aspp": ("cityscapes:mobilenetv3_large", {}, 8),
  "r_aspp": ("cityscapes:mobilenetv3_large", {"model.head": "r_aspp", "model.head_filters": 256}, 8),
  "ssdlite": ("coco_google:mobilenetv3_large", {}, 64),
  "ssdlite, torchvision": ("coco_torchvision:mobilenetv3_large", {}, 32),
}


def compiled(name: str) -> dict[str, Any]:
  """Compiles a case and returns its figures."""
  config, fields, batch = CASES[name]
  found = mnv3_jax.compile_for(mnv3_jax.get_config(config, fields), TOPOLOGY, batch_per_device=batch, on_message=print)
  print(f"\n{found}\n", flush=True)
  packages = [p for p in ("jax", "jax-cuda12-plugin", "jax-cuda13-plugin") if _installed(p)]
  case = {"case": name, "config": config, "fields": fields, "date": str(datetime.date.today())}
  return {**case, "versions": {package: metadata.version(package) for package in packages}, **found.to_dict()}


def _installed(package: str) -> bool:
  try:
    return bool(metadata.version(package))
  except metadata.PackageNotFoundError:
    return False


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: one line for each case."""
  lines = ["| network or head | config | images | training compiles | temporaries, GiB | evaluation compiles | seconds |"]
  lines.append("|---" * 7 + "|")
  for r in results:
    steps = r, r["evaluation"]
    training, evaluation = ("yes" if one["compiles"] else f"no: {one['reason']}" for one in steps)
    memory = f"{r['memory']['temporaries'] / 2**30:.2f}" if r["compiles"] else ""
    seconds = f"{sum(one.get('compile_seconds', 0) for one in steps):.0f}"
    cells = [r["case"], f"`{r['config']}`", r["batch_size"], training, memory, evaluation, seconds]
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  dates = sorted({r["date"] for r in results})
  return f"{table(results)}\n\nCompiled for {results[0]['device_kind']}, {versions(results)}; {' and '.join(dates)}.\n"


if __name__ == "__main__":
  results = keep(str(__doc__), OUT, list(CASES), compiled, table)
  raise SystemExit(not all(r["compiles"] and r["evaluation"]["compiles"] for r in results))
