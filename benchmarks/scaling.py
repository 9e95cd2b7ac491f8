"""A training compiled for TPU slices of 8 to 256 devices that are not there: estimated time, collectives, efficiency.

python benchmarks/scaling.py [--cases growing,...] [--out FILE.json]

Each slice takes minutes; libtpu must be installed (pip install 'mnv3_jax[tpu]'). Nothing runs on a TPU.
"""

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from accelerators import keep

import mnv3_jax

OUT = pathlib.Path(__file__).parent / "results" / "scaling.json"
CONFIG = "imagenet:mobilenetv3_small"
# the first block: all of V3-Small takes the compiler minutes for each slice. Most parameters are in the layers after the
# blocks, which it has
BLOCKS = "k3_e16_o16_s2_re_se0.25"
TOPOLOGIES = ("v5e:2x4", "v5e:16x16")
# name: (fields, images a device; None for those of the config's batch)
CASES: dict[str, tuple[dict[str, object], int | None]] = {
  "growing": ({"model.blocks": BLOCKS}, 128),
  "fixed": ({"model.blocks": BLOCKS, "model.bn_group": 0, "train.batch_size": 4096}, None),
}
HEAD = (
  *("batch", "slice", "devices", "images a device", "step, ms", "collectives, ms", "images/s a device", "images/s"),
  *("efficiency", "collectives, MB a chip", "collectives, share", "whole training, h"),
)


def compiled(name: str) -> dict[str, Any]:
  """Compiles a case for all slices and returns its figures."""
  fields, batch = CASES[name]
  config = mnv3_jax.get_config(CONFIG, fields)
  found = mnv3_jax.compile_scaling(config, TOPOLOGIES, batch_per_device=batch, on_message=print, on_compiled=print)
  print(f"\n{found}\n", flush=True)
  versions = {package: metadata.version(package) for package in ("jax", "libtpu")}
  about = {"case": name, "config": CONFIG, "fields": fields, "batch_per_device": batch}
  return {**about, "date": str(datetime.date.today()), "versions": versions, "slices": found.to_dicts()}


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: one line for each slice."""
  lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
  for r in results:
    for one in r["slices"]:
      scaled, n = one["scaling"], one["devices"]
      cells = [
        f"{one['batch_size']:,}",
        one["topology"],
        n,
        one["batch_size"] // n,
        f"{one['step_ms']:.2f}",
        f"{one['bound_ms']['collectives']:.2f}",
        f"{scaled['images_per_second'] / n:,.0f}",
        f"{scaled['images_per_second']:,.0f}",
        f"{scaled['efficiency']:.2f}",
        f"{one['collective_bytes'] / 1e6:.1f}",
        f"{100 * one['collective_share']:.1f} %",
        f"{scaled['hours']:.2f}",
      ]
      lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  versions = sorted({f"{name} {version}" for r in results for name, version in r["versions"].items()})
  dates = sorted({r["date"] for r in results})
  return f"{table(results)}\n\nEstimates of XLA, {', '.join(versions)}; {' and '.join(dates)}.\n"


if __name__ == "__main__":
  keep(str(__doc__), OUT, list(CASES), compiled, table)
