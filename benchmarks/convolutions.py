"""Time of depthwise and pointwise convolutions by shape and formulation; models/convolutions.py chooses from these.

python benchmarks/convolutions.py [--network mobilenetv3_small] [--resolution 224] [--batch 16] [--dtype float32] [--out FILE]

For every different layer of a network: milliseconds of the result and of both gradients (one compiled function each), by every
formulation of the project, by autodiff of the shifted slices, and by the plain convolution in NCHW; interleaved, medians.
"""

import argparse
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.commands.options import start_jax
from mnv3_jax.models import convolutions

SECONDS = 0.1

Convolution = Callable[[Array, Array], Array]
# (type, kernel, stride, size, channels in, channels out)
Layer = tuple[str, int, int, int, int, int]


def nchw(x: Float[Array, "b h w c"], w: Float[Array, "k k i o"], stride: int, groups: int) -> Float[Array, "b h2 w2 o"]:
  """Computes the plain convolution in NCHW; its time includes the transpositions from and to NHWC."""
  pads = [convolutions.pads(n, w.shape[0], stride, 1, "same") for n in x.shape[1:3]]
  y = lax.conv_general_dilated(
    x.transpose(0, 3, 1, 2), w, (stride, stride), pads, dimension_numbers=("NCHW", "HWIO", "NCHW"), feature_group_count=groups
  )
  return y.transpose(0, 2, 3, 1)


def autodiff(x: Float[Array, "b h w c"], w: Float[Array, "k k i c"], stride: int) -> Float[Array, "b h2 w2 c"]:
  """Computes the sum of shifted slices, with the gradient that JAX derives."""
  axes = tuple(convolutions._Axis(n, w.shape[0], stride, 1, "same") for n in x.shape[1:3])
  return convolutions._shifted.__wrapped__(x, w[:, :, 0], axes)


def layers(net: Architecture) -> list[Layer]:
  """Returns the distinct layers of a network in its order."""
  found, size = [], -(-net.resolution // net.stem.stride)
  for _, channels, b in net.rows():
    if b.expand != channels:
      found.append(("pointwise", 1, 1, size, channels, b.expand))
    found.append(("depthwise", b.kernel, b.stride, size, b.expand, b.expand))
    size = -(-size // b.stride)
    found.append(("pointwise", 1, 1, size, b.expand, b.out))
  return list(dict.fromkeys(found))


def candidates(type_: str, stride: int, channels: int) -> dict[str, Convolution]:
  """Returns functions of (x, w) by formulation."""
  if type_ == "pointwise":
    named = {f: lambda x, w, f=f: convolutions.pointwise(x, w, formulation=f) for f in ("shifted", "plain")}
    return named | {"plain, NCHW": lambda x, w: nchw(x, w, 1, 1)}
  named = {f: lambda x, w, f=f: convolutions.depthwise(x, w, stride=stride, formulation=f) for f in ("shifted", "plain")}
  return named | {
    "shifted, autodiff": lambda x, w: autodiff(x, w, stride),
    "plain, NCHW": lambda x, w: nchw(x, w, stride, channels),
  }


def gradients(function: Convolution) -> Callable[[Array, Array, Array], tuple[Array, Array, Array]]:
  """Returns a compiled function from (x, w, gradient of y) to (y, gradient of x, gradient of w)."""

  def work(x: Array, w: Array, g: Array) -> tuple[Array, Array, Array]:
    y, back = jax.vjp(function, x, w)
    return y, *back(g)

  return jax.jit(work)


def measure(layer: Layer, batch: int, dtype: str, rounds: int) -> dict[str, float]:
  """Returns the median milliseconds by formulation."""
  type_, kernel, stride, size, channels, out = layer
  rng, outputs = np.random.default_rng(0), -(-size // stride)
  shapes = {
    "x": (batch, size, size, channels),
    "w": (kernel, kernel, 1 if type_ == "depthwise" else channels, out),
    "g": (batch, outputs, outputs, out),
  }
  arrays = [jax.numpy.asarray(rng.normal(size=s), dtype) for s in shapes.values()]
  works = {name: gradients(f) for name, f in candidates(type_, stride, channels).items()}
  calls, seconds = {}, {name: [] for name in works}
  for name, work in works.items():
    jax.block_until_ready(work(*arrays))
    began = time.perf_counter()
    jax.block_until_ready(work(*arrays))
    calls[name] = max(1, round(SECONDS / (time.perf_counter() - began)))
  for _ in range(rounds):
    for name, work in works.items():
      began = time.perf_counter()
      for _ in range(calls[name]):
        last = work(*arrays)
      jax.block_until_ready(last)
      seconds[name].append((time.perf_counter() - began) / calls[name])
  return {name: 1000 * float(np.median(s)) for name, s in seconds.items()}


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--network", default="mobilenetv3_small")
  options.add_argument("--resolution", type=int, default=224)
  options.add_argument("--batch", type=int, default=16)
  options.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  options.add_argument("--rounds", type=int, default=7)
  options.add_argument("--out", type=pathlib.Path, help="Markdown to write")
  given = options.parse_args()
  start_jax()
  names = list(candidates("depthwise", 1, 1))
  lines = [
    f"{given.network}, {given.resolution} px, batch {given.batch}, {given.dtype}, {jax.devices()[0].device_kind}, "
    f"jax {jax.__version__}: milliseconds of result and gradients",
    "",
    "| layer | kernel | stride | size | in | out | " + " | ".join(names) + " |",
    "|---" * (6 + len(names)) + "|",
  ]
  print("\n".join(lines), flush=True)
  for layer in layers(architecture(given.network, resolution=given.resolution)):
    found = measure(layer, given.batch, given.dtype, given.rounds)
    best = min(found, key=found.get)
    cells = [("**{:.2f}**" if n == best else "{:.2f}").format(found[n]) if n in found else "" for n in names]
    lines.append("| " + " | ".join([*map(str, layer), *cells]) + " |")
    print(lines[-1], flush=True)
  if given.out:
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
