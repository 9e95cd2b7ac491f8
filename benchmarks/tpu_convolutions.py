"""Depthwise layers compiled for a TPU by the channels of a group: models/convolutions.py chooses from these.

python benchmarks/tpu_convolutions.py [--network mobilenetv3_small] [--topology v5e:2x2] [--batch 128] [--groups 1,4,8,16]

A layer stands between two pointwise ones with batch norm and ReLU, as in a block, since XLA fuses them: estimated cycles of the
result and of all gradients, for images of 224 px in bfloat16 on one device. In a group of several channels a kernel is zero
beside the diagonal. libtpu must be installed.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import stock_step
from accelerators import versions
from convolutions import Layer, layers
from jax.experimental import topologies

from mnv3_jax.accelerators import hlo
from mnv3_jax.accelerators.topologies import Topology, parse_topology
from mnv3_jax.architectures.fields import architecture
from mnv3_jax.models import batch_norm, convolutions
from mnv3_jax.models.activations import FUNCTIONS

OUT = pathlib.Path(__file__).parent / "results" / "tpu_convolutions.json"


def cycles(layer: Layer, batch: int, size: int, topology: Topology) -> int:
  """Returns the estimated cycles of a depthwise layer for a batch of images, with groups of `size` channels."""
  _, kernel, stride, side, channels, _ = layer
  outer = max(16, channels // 4)
  norm = batch_norm.form("plain", None, (0, 1, 2), 1e-3, FUNCTIONS["relu"])

  def block(x: jax.Array, expand: jax.Array, w: jax.Array, project: jax.Array) -> jax.Array:
    ones, zeros = jnp.ones(channels), jnp.zeros(channels)
    x = norm(convolutions.convolution(x, expand), ones, zeros)[0]
    x = norm(convolutions.in_groups(x, w, size, stride=stride), ones, zeros)[0]
    return convolutions.convolution(x, project)

  def work(x: jax.Array, expand: jax.Array, w: jax.Array, project: jax.Array, g: jax.Array) -> Any:
    y, back = jax.vjp(block, x, expand, w, project)
    return y, *back(g)

  devices = topologies.get_topology_desc(topology.name, platform="tpu", **topology.options()).devices
  where, out = jax.sharding.SingleDeviceSharding(devices[0]), math.ceil(side / stride)
  shapes = (
    (batch, side, side, outer),
    (1, 1, outer, channels),
    (kernel, kernel, 1, channels),
    (1, 1, channels, outer),
    (batch, out, out, outer),
  )
  arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=where) for shape in shapes]
  return hlo.parse(jax.jit(work).trace(*arrays).lower(lowering_platforms=("tpu",)).compile().as_text()).cycles


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: Mcycles by layer and group, the least in bold."""
  sizes = sorted({int(size) for r in results for size in r["mcycles"]})
  lines = ["| kernel | stride | size | channels | " + " | ".join(f"groups of {size}" for size in sizes) + " |"]
  lines.append("|---" * (4 + len(sizes)) + "|")
  for r in results:
    found = r["mcycles"]
    cells = [str(r[name]) for name in ("kernel", "stride", "size", "channels")]
    for size in map(str, sizes):
      text = f"{found[size]:.2f}" if size in found else ""
      cells.append(f"**{text}**" if size in found and found[size] == min(found.values()) else text)
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  first = results[0]
  what = f"Mcycles of a layer and its neighbours, {first['batch']} images, {first['topology']}"
  about = f"{what}; estimates of XLA, {versions(results)}"
  return f"{table(results)}\n\n{about}.\n"


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  options.add_argument("--network", default="mobilenetv3_small")
  options.add_argument("--topology", default="v5e:2x2")
  options.add_argument("--batch", type=int, default=128)
  options.add_argument("--groups", default="1,4,8,16")
  options.add_argument("--out", type=pathlib.Path, default=OUT)
  given = options.parse_args()
  stock_step.start()
  topology, results = parse_topology(given.topology), []
  for layer in layers(architecture(given.network, resolution=224)):
    type_, kernel, stride, side, channels, _ = layer
    if type_ != "depthwise":
      continue
    sizes = [size for size in map(int, given.groups.split(",")) if channels % size == 0]
    found = {str(size): cycles(layer, given.batch, size, topology) / 1e6 for size in sizes}
    about = {
      "network": given.network,
      "topology": topology.name,
      "batch": given.batch,
      "kernel": kernel,
      "stride": stride,
      "size": side,
    }
    about["versions"] = {package: metadata.version(package) for package in ("jax", "libtpu")}
    results.append({**about, "channels": channels, "mcycles": found})
    print(results[-1], flush=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n")
  print(table(results))


if __name__ == "__main__":
  main()
