"""The compiler's estimate beside rates that others have measured: networks in stock Flax layers, trained on ImageNet at 224 px.

python benchmarks/calibration.py [--cases v3-8,...] [--out FILE.json]

The measured rates follow from the hours of whole trainings, with evaluation, start and waiting for data in them:
- ResNet-50: the table in Flax's examples/imagenet/README.md, 125,100 steps of 1,024 images;
- ViT-S/16 and MLP-Mixer-B/16: the configs of google-research/big_vision (vit_s16_i1k.py: "6-7h" for 90 epochs;
  mlp_mixer_i1k.py: 2 h 11 min for 300 epochs), of 99 % of the training images.

Each case takes minutes; libtpu must be installed.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import flax.linen as nn
import optax
import stock_step
from accelerators import keep, versions
from calibrated_networks import Mixer, ResNet50, ViT

from mnv3_jax.accelerators.topologies import parse_topology

OUT = pathlib.Path(__file__).parent / "results" / "calibration.json"
IMAGES = 1_281_167


@dataclasses.dataclass(frozen=True)
class Published:
  """Training whose duration its authors published.

  Attributes:
    network: as text.
    model: module.
    rule: optimizer.
    topology: slice.
    batch_size: over all devices.
    images: of the whole training.
    hours: least and most.
    dtype: of the images.
  """

  network: str
  model: nn.Module
  rule: optax.GradientTransformation
  topology: str
  batch_size: int
  images: float
  hours: tuple[float, float]
  dtype: str = "bfloat16"


def _resnet(topology: str, hours: float) -> Published:
  # published to a tenth of an hour
  return Published(
    "ResNet-50",
    ResNet50(),
    optax.sgd(0.1, momentum=0.9, nesterov=True),
    topology,
    1024,
    1024 * 125_100,
    (hours - 0.05, hours + 0.05),
  )


_ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mu_dtype="bfloat16", weight_decay=1e-4))
CASES = {
  "v3-8": _resnet("v3:2x2", 4.4),
  "v3-32": _resnet("v3:4x4", 2.1),
  "v2-32": _resnet("v2:4x4", 2.5),
  "vit-v3-8": Published("ViT-S/16", ViT(), _ADAM, "v3:2x2", 1024, 90 * 0.99 * IMAGES, (6, 7), "float32"),
  "mixer-v3-128": Published(
    "MLP-Mixer-B/16", Mixer(), _ADAM, "v3:8x8", 4096, 300 * 0.99 * IMAGES, (2 + 10.5 / 60, 2 + 11.5 / 60), "float32"
  ),
}


def compiled(name: str) -> dict[str, Any]:
  """Compiles the training step for a case and returns the estimated and the measured rate."""
  case = CASES[name]
  topology = parse_topology(case.topology)
  cycles = stock_step.compiled(case.model, case.rule, topology, case.batch_size, case.dtype).cycles
  least, most = case.hours
  return {
    "case": name,
    "network": case.network,
    "topology": topology.name,
    "devices": topology.devices,
    "batch_size": case.batch_size,
    "mcycles": cycles / 1e6,
    "estimated": case.batch_size * topology.chip.clock / cycles,
    "measured": [case.images / (3600 * most), case.images / (3600 * least)],
    "versions": {package: metadata.version(package) for package in ("flax", "jax", "libtpu")},
  }


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: images per second of all devices, estimated and measured."""
  lines = ["| network | slice | images a device | Mcycles | estimated, images/s | measured, images/s | estimated / measured |"]
  lines.append("|---" * 7 + "|")
  for r in results:
    low, high = r["measured"]
    ratios = r["estimated"] / high, r["estimated"] / low
    cells = [r["network"], f"{r['topology']} ({r['devices']} devices)", r["batch_size"] // r["devices"], f"{r['mcycles']:.1f}"]
    cells += [f"{r['estimated']:,.0f}", f"{low:,.0f} to {high:,.0f}", f"{ratios[0]:.2f} to {ratios[1]:.2f}"]
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  about = f"Estimates of XLA, {versions(results)}; measured by the authors, with the compilers of their time."
  return f"{table(results)}\n\n{about}\n"


if __name__ == "__main__":
  stock_step.start()
  keep(str(__doc__), OUT, list(CASES), compiled, table)
