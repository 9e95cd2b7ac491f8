"""A training step compiled for TPU, beside the same network in stock Flax layers: estimated cycles and memory traffic.

python benchmarks/tpu_step.py [--cases mobilenetv3_small_v5e,...] [--out FILE.json]

Ours is the whole step of configs/imagenet.py, with moving average and metrics; theirs has the optimizer alone. Both take 128
images a device at 224 px, in bfloat16. Each case takes minutes; libtpu must be installed (pip install 'mnv3_jax[tpu]').
"""

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import optax
import stock_step
from accelerators import keep, versions
from contestants.stock_network import StockNetwork

import mnv3_jax
from mnv3_jax.accelerators.compilation import compile_training, prepare
from mnv3_jax.architectures.fields import architecture

OUT = pathlib.Path(__file__).parent / "results" / "tpu_step.json"
NETWORKS = ("mobilenetv3_small", "mobilenetv3_large", "mobilenetv2", "mnasnet_a1")
# the smallest slice of each
CHIPS = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "v4": "v4:2x2x1", "v3": "v3:2x2"}
CASES = {f"{network}_{chip}": (network, topology) for chip, topology in CHIPS.items() for network in NETWORKS}
BATCH = 128


def compiled(name: str) -> dict[str, Any]:
  """Compiles both steps of a case and returns their figures."""
  network, slice_ = CASES[name]
  config = mnv3_jax.get_config(f"imagenet:{network}", {"model.dtype": "bfloat16"})
  config, topology = prepare(config, slice_, batch_per_device=BATCH)
  ours = compile_training(config, topology)
  assert ours.compiles and ours.memory, ours.reason
  rule = optax.chain(optax.add_decayed_weights(1e-5), optax.rmsprop(1e-3, 0.9, 1e-3, initial_scale=1.0, momentum=0.9))
  stock = stock_step.compiled(
    StockNetwork(architecture(network), "bfloat16"), rule, topology, BATCH * topology.devices, "bfloat16"
  )
  figures = {
    "ours": {"mcycles": ours.cycles / 1e6, "bytes": ours.bytes, "temporaries": ours.memory.temporaries},
    "stock": {"mcycles": stock.cycles / 1e6, "bytes": stock.bytes, "temporaries": stock.temporaries},
  }
  about = {"case": name, "network": network, "topology": topology.name, "date": str(datetime.date.today())}
  return {**about, "versions": {package: metadata.version(package) for package in ("flax", "jax", "libtpu")}, **figures}


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: stock layers, ours, and ours by theirs."""
  lines = ["| network | slice | stock Flax, Mcycles | ours | ours / stock | stock Flax, GB | ours | ours / stock |"]
  lines.append("|---" * 8 + "|")
  for r in results:
    ours, stock = r["ours"], r["stock"]
    cells = [r["network"], r["topology"], f"{stock['mcycles']:.2f}", f"{ours['mcycles']:.2f}"]
    cells += [f"{ours['mcycles'] / stock['mcycles']:.2f}", f"{stock['bytes'] / 1e9:.2f}", f"{ours['bytes'] / 1e9:.2f}"]
    lines.append("| " + " | ".join([*cells, f"{ours['bytes'] / stock['bytes']:.2f}"]) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  dates = sorted({r["date"] for r in results})
  return f"{table(results)}\n\nEstimates of XLA, {versions(results)}; {' and '.join(dates)}.\n"


if __name__ == "__main__":
  stock_step.start()
  keep(str(__doc__), OUT, list(CASES), compiled, table)
