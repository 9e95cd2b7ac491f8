"""Formulations of depthwise and pointwise convolutions, by shape: what models/convolutions.py chooses from.

python benchmarks/convolutions.py [--network mobilenetv3_small] [--resolution 224] [--batch 16] [--dtype float32] [--out FILE]

For every different layer of a network: milliseconds of the result and of both gradients (one compiled function each), by every
formulation of the project, by autodiff of the shifted slices, and by the plain convolution in NCHW; interleaved, medians.
"""

import argparse
import pathlib
import time

import jax
import numpy as np
from jax import lax

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.commands.options import start_jax
from mnv3_jax.models import convolutions

SECONDS = 0.1


def nchw(x, w, stride, groups):
  """The plain convolution of a map that is NCHW inside; layout changes at its ends are part of what it costs."""
  pads = [convolutions.pads(n, w.shape[0], stride, 1, "same") for n in x.shape[1:3]]
  y = lax.conv_general_dilated(
    x.transpose(0, 3, 1, 2), w, (stride, stride), pads, dimension_numbers=("NCHW", "HWIO", "NCHW"), feature_group_count=groups
  )
  return y.transpose(0, 2, 3, 1)


def autodiff(x, w, stride):
  """The sum of shifted slices with the gradient that JAX derives."""
  axes = tuple(convolutions._Axis(n, w.shape[0], stride, 1, "same") for n in x.shape[1:3])
  return convolutions._shifted.__wrapped__(x, w[:, :, 0], axes)


def layers(net):
  """{(kind, kernel, stride, size, channels in, channels out)} of a network, as a list in its order."""
  found, size = [], -(-net.resolution // net.stem.stride)
  for _, channels, b in net.rows():
    if b.expand != channels:
      found.append(("pointwise", 1, 1, size, channels, b.expand))
    found.append(("depthwise", b.kernel, b.stride, size, b.expand, b.expand))
    size = -(-size // b.stride)
    found.append(("pointwise", 1, 1, size, b.expand, b.out))
  return list(dict.fromkeys(found))


def candidates(kind, stride, channels):
  """{formulation: function of (x, w)}."""
  if kind == "pointwise":
    named = {f: lambda x, w, f=f: convolutions.pointwise(x, w, formulation=f) for f in ("shifted", "plain")}
    return named | {"plain, NCHW": lambda x, w: nchw(x, w, 1, 1)}
  named = {f: lambda x, w, f=f: convolutions.depthwise(x, w, stride=stride, formulation=f) for f in ("shifted", "plain")}
  return named | {
    "shifted, autodiff": lambda x, w: autodiff(x, w, stride),
    "plain, NCHW": lambda x, w: nchw(x, w, stride, channels),
  }


def gradients(function):
  """(x, w, g) to (y, both gradients)."""

  def work(x, w, g):
    y, back = jax.vjp(function, x, w)
    return y, *back(g)

  return jax.jit(work)


def measured(layer, batch, dtype, rounds):
  """{formulation: median milliseconds}."""
  kind, kernel, stride, size, channels, out = layer
  rng, outputs = np.random.default_rng(0), -(-size // stride)
  shapes = {
    "x": (batch, size, size, channels),
    "w": (kernel, kernel, 1 if kind == "depthwise" else channels, out),
    "g": (batch, outputs, outputs, out),
  }
  given = [jax.numpy.asarray(rng.normal(size=s), dtype) for s in shapes.values()]
  works = {name: gradients(f) for name, f in candidates(kind, stride, channels).items()}
  calls, seconds = {}, {name: [] for name in works}
  for name, work in works.items():
    jax.block_until_ready(work(*given))
    began = time.perf_counter()
    jax.block_until_ready(work(*given))
    calls[name] = max(1, round(SECONDS / (time.perf_counter() - began)))
  for _ in range(rounds):
    for name, work in works.items():
      began = time.perf_counter()
      for _ in range(calls[name]):
        last = work(*given)
      jax.block_until_ready(last)
      seconds[name].append((time.perf_counter() - began) / calls[name])
  return {name: 1000 * float(np.median(s)) for name, s in seconds.items()}


def main():
  """The command line."""
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
    found = measured(layer, given.batch, given.dtype, given.rounds)
    best = min(found, key=found.get)
    cells = [("**{:.2f}**" if n == best else "{:.2f}").format(found[n]) if n in found else "" for n in names]
    lines.append("| " + " | ".join([*map(str, layer), *cells]) + " |")
    print(lines[-1], flush=True)
  if given.out:
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
