"""Latency of the exported .tflite files, by kind, beside keras.applications' files of the same networks; 1 thread, interleaved.

python benchmarks/files.py [--networks mobilenetv3_large,...] [--runs 400] [--out FILE.json]

Seeded weights: latency does not depend on them. Keras's files are made here by TensorFlow's converter, where it is installed.
"""

import argparse
import contextlib
import io
import os
import pathlib
import sys
from importlib import metadata

from speed import several, write

from mnv3_jax.architectures import zoo
from mnv3_jax.export import tflite
from mnv3_jax.export.quantize import KINDS, quantized
from mnv3_jax.export.runtime import Network
from mnv3_jax.latency.timing import Host, ratio

NETWORKS = ("mobilenetv3_large", "mobilenetv3_small", "mobilenetv2", "mobilenetv1", "mnasnet_a1")
KERAS = {"mobilenetv3_large": "MobileNetV3Large", "mobilenetv3_small": "MobileNetV3Small"}
LOADS = 8
UNFUSED = "float32, h-swish in parts"


def files(name):
  """{what: bytes of a .tflite file} of a network; "float32" comes first."""
  a = zoo.MODELS[name]()
  variables, images = tflite.seeded(a, images=8)
  plain, parts = tflite.converted(a, variables), tflite.converted(a, variables, fused=False)
  images = [x[None] for x in images]
  found = {kind: quantized(parts if kind == "int8_integer" else plain, kind, images) for kind in KINDS}
  found = {"float32": found.pop("none"), **found}
  if Network(parts).ops != Network(plain).ops:
    found[UNFUSED] = parts
  if name in KERAS:
    found["keras.applications"] = of_keras(KERAS[name])
  return {what: content for what, content in found.items() if content}


def of_keras(name):
  """The bytes of Keras's own file, None where TensorFlow is not installed."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    import tensorflow as tf
  except ImportError:
    return None
  shape = (224, 224, 3)
  build = getattr(tf.keras.applications, name)
  network = build(input_shape=shape, weights=None, include_preprocessing=False, classifier_activation=None)
  # its names of all variables
  with contextlib.redirect_stdout(io.StringIO()):
    return tf.lite.TFLiteConverter.from_keras_model(network).convert()


def measured(contents, runs):
  """{what: figures} of files that take turns; ratios are to "float32", round by round.

  They are loaded anew several times, in either order: where weights happen to lie makes up to 4 % of a file's time.
  """
  host, found = Host(), {}
  rounds = {what: [] for what in contents}
  for load in range(LOADS):
    order = list(contents)[:: 1 if load % 2 else -1]
    for what, times in host.rounds({what: contents[what] for what in order}, -(-runs // LOADS)).items():
      rounds[what] += times
  for what, content in contents.items():
    latency, beside, network = host.latency(rounds[what]), ratio(rounds[what], rounds["float32"]), Network(content)
    found[what] = {
      "bytes": len(content),
      "partitions": network.partitions,
      "operators": sum(network.ops.values()),
      "ms": round(latency.median_ms, 3),
      "ms_quartiles": [round(latency.p25_ms, 3), round(latency.p75_ms, 3)],
      "ratio": round(beside.median, 3),
      "ratio_quartiles": [round(beside.p25, 3), round(beside.p75, 3)],
    }
  found["float32"]["versions"] = {"ai-edge-litert": metadata.version("ai-edge-litert")}
  return found


def table(results):
  """The results in Markdown: milliseconds of the float32 file, and how many times as long the others take."""
  others = list(dict.fromkeys(what for r in results for what in r["figures"] if what != "float32"))
  lines = ["| network | float32, ms | " + " | ".join(f"{what}, × float32" for what in others) + " | MB, float32 and int8 |"]
  lines.append("|---" * (3 + len(others)) + "|")
  for r in results:
    figures = r["figures"]
    cells = [r["case"]["network"], _with_quartiles(figures["float32"]["ms"], figures["float32"]["ms_quartiles"])]
    cells += [_with_quartiles(f["ratio"], f["ratio_quartiles"]) if (f := figures.get(what)) else "" for what in others]
    cells.append(" and ".join(f"{figures[what]['bytes'] / 1e6:.1f}" for what in ("float32", "int8")))
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def _with_quartiles(value, quartiles):
  return "{:.2f} ({:.2f} to {:.2f})".format(value, *quartiles)


def main():
  """The command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--networks", type=several(NETWORKS), default=NETWORKS, help="separated by commas")
  options.add_argument("--runs", type=int, default=400, help="invocations of each file that count")
  options.add_argument("--out", type=pathlib.Path, help="JSON to write; other networks that it has stay")
  given = options.parse_args()
  results = []
  for network in given.networks:
    print(f"{network} ...", file=sys.stderr, flush=True)
    results.append({"case": {"network": network}, "figures": measured(files(network), given.runs)})
    if given.out:
      write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
