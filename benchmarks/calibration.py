"""The compiler's estimate beside rates that others have measured: ResNet-50 in stock Flax layers on ImageNet.

python benchmarks/calibration.py [--cases v3-8,...] [--out FILE.json]

The measured rates are those of the table in Flax's examples/imagenet/README.md: 125,100 steps of 1,024 images in so many hours,
with evaluation, start and waiting for data in them. Each case takes minutes; libtpu must be installed.
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from accelerators import keep, versions
from jax.experimental import topologies

from mnv3_jax.accelerators import hlo, process
from mnv3_jax.accelerators.topologies import parse_topology
from mnv3_jax.models.layers import AXIS
from mnv3_jax.training.parallel import ShardMap

OUT = pathlib.Path(__file__).parent / "results" / "calibration.json"
BATCH, STEPS = 1024, 125_100
# name in Flax's table: (slice, hours)
CASES = {"v3-8": ("v3:2x2", 4.4), "v3-32": ("v3:4x4", 2.1), "v2-32": ("v2:4x4", 2.5)}


class Bottleneck(nn.Module):
  """Block of ResNet-50: 1x1, 3x3 with the stride, 1x1, each with batch norm."""

  filters: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Applies the block."""

    def unit(x: jax.Array, features: int, kernel: int, stride: int = 1) -> jax.Array:
      x = nn.Conv(features, (kernel, kernel), stride, use_bias=False, dtype=jnp.bfloat16)(x)
      return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=jnp.bfloat16)(x)

    y = nn.relu(unit(x, self.filters, 1))
    y = unit(nn.relu(unit(y, self.filters, 3, self.stride)), 4 * self.filters, 1)
    return nn.relu(y + (x if x.shape == y.shape else unit(x, 4 * self.filters, 1, self.stride)))


class ResNet50(nn.Module):
  """ResNet-50 in stock layers, bfloat16."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns logits of 1,000 classes."""
    x = nn.Conv(64, (7, 7), 2, padding=3, use_bias=False, dtype=jnp.bfloat16)(x)
    x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=jnp.bfloat16)(x))
    x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    for stage, blocks in enumerate((3, 4, 6, 3)):
      for block in range(blocks):
        x = Bottleneck(64 * 2**stage, 2 if stage and not block else 1)(x, train)
    return nn.Dense(1000, dtype=jnp.bfloat16)(x.mean((1, 2))).astype(jnp.float32)


def compiled(name: str) -> dict[str, Any]:
  """Compiles the training step for a case and returns the estimated and the measured rate."""
  topology, hours = parse_topology(CASES[name][0]), CASES[name][1]
  devices = topologies.get_topology_desc(topology.name, platform="tpu", **topology.options()).devices
  model, rule, place = ResNet50(), optax.sgd(0.1, momentum=0.9, nesterov=True), ShardMap(devices)

  def step(carried: Any, batch: Any) -> tuple[Any, jax.Array]:
    def objective(params: Any) -> tuple[jax.Array, Any]:
      variables = {"params": params, "batch_stats": carried["statistics"]}
      logits, changed = model.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
      return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), changed["batch_stats"]

    (loss, statistics), gradient = jax.value_and_grad(objective, has_aux=True)(carried["params"])
    updates, state = rule.update(jax.lax.pmean(gradient, AXIS), carried["rule"])
    params = optax.apply_updates(carried["params"], updates)
    return {"params": params, "statistics": statistics, "rule": state}, jax.lax.pmean(loss, AXIS)

  image = jax.ShapeDtypeStruct((BATCH, 224, 224, 3), jnp.bfloat16)
  variables = jax.eval_shape(
    lambda x: model.init(jax.random.key(0), x, train=False), jax.ShapeDtypeStruct((1, 224, 224, 3), image.dtype)
  )
  carried = {"params": variables["params"], "statistics": variables["batch_stats"]}
  carried["rule"] = jax.eval_shape(rule.init, variables["params"])
  batch = {"image": image, "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32)}
  arguments = place.describe(carried, split=False), place.describe(batch, split=True)
  program = place.compile(step, outputs=2, donate=True).trace(*arguments).lower(lowering_platforms=("tpu",)).compile()
  cycles = hlo.parse(program.as_text()).cycles
  return {
    "case": name,
    "topology": topology.name,
    "devices": topology.devices,
    "mcycles": cycles / 1e6,
    "estimated": BATCH * topology.chip.clock / cycles,
    "measured": BATCH * STEPS / (3600 * hours),
    "versions": {package: metadata.version(package) for package in ("flax", "jax", "libtpu")},
  }


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: images per second of all devices, estimated and measured."""
  lines = ["| slice | images a device | Mcycles | estimated, images/s | measured, images/s | estimated / measured |"]
  lines.append("|---" * 6 + "|")
  for r in results:
    cells = [f"{r['topology']} ({r['case']})", BATCH // r["devices"], f"{r['mcycles']:.1f}"]
    cells += [f"{r['estimated']:,.0f}", f"{r['measured']:,.0f}", f"{r['estimated'] / r['measured']:.2f}"]
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  about = f"Estimates of XLA, {versions(results)}; measured by the authors of the example, with the compiler of their time."
  return f"{table(results)}\n\n{about}\n"


if __name__ == "__main__":
  # before libtpu is loaded
  os.environ.update(process.SETTINGS)
  jax.config.update("jax_platforms", "cpu")
  keep(str(__doc__), OUT, list(CASES), compiled, table)
