"""Latency of exported .tflite files by quantization, beside those of keras.applications; 1 thread, interleaved.

python benchmarks/files.py [--networks mobilenetv3_large,...] [--runs 400] [--out FILE.json]

Weights are random: latency does not depend on them. Keras's files are made here by TensorFlow's converter if it is installed.
"""

import argparse
import contextlib
import io
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from speed import several, write

from mnv3_jax.architectures import zoo
from mnv3_jax.export import tflite
from mnv3_jax.export.quantize import QUANTIZATIONS, quantize
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.latency.timing import Host, ratio

NETWORKS = ("mobilenetv3_large", "mobilenetv3_small", "mobilenetv2", "mobilenetv1", "mnasnet_a1")
KERAS = {"mobilenetv3_large": "MobileNetV3Large", "mobilenetv3_small": "MobileNetV3Small"}
LOADS = 8
UNFUSED = "float32, h-swish in parts"


def files(name: str) -> dict[str, bytes]:
  """Returns the .tflite files of a network by variant; "float32" comes first."""
  a = zoo.MODELS[name]()
  variables, images = random_weights(a, num_images=8)
  plain, parts = tflite.convert_float(a, variables), tflite.convert_float(a, variables, fused=False)
  images = [x[None] for x in images]
  found = {q: quantize(parts if q == "int8_integer" else plain, q, images) for q in QUANTIZATIONS}
  found = {"float32": found.pop("none"), **found}
  if TFLiteModel(parts).ops != TFLiteModel(plain).ops:
    found[UNFUSED] = parts
  if name in KERAS:
    found["keras.applications"] = keras_file(KERAS[name])
  return {what: content for what, content in found.items() if content}


def keras_file(name: str) -> bytes | None:
  """Returns Keras's own file, None if TensorFlow is not installed."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    import tensorflow as tf
  except ImportError:
    return None
  shape = (224, 224, 3)
  build = getattr(tf.keras.applications, name)
  network = build(input_shape=shape, weights=None, include_preprocessing=False, classifier_activation=None)
  # the converter prints the names of all variables
  with contextlib.redirect_stdout(io.StringIO()):
    return tf.lite.TFLiteConverter.from_keras_model(network).convert()


def measure(contents: Mapping[str, bytes], runs: int) -> dict[str, dict[str, Any]]:
  """Times files, interleaved, and returns their metrics; ratios are to "float32", round by round.

  Files are loaded several times, in both orders: the place of the weights in memory makes up to 4 % of a file's time.
  """
  host, found = Host(), {}
  rounds = {what: [] for what in contents}
  for load in range(LOADS):
    order = list(contents)[:: 1 if load % 2 else -1]
    for what, times in host.rounds({what: contents[what] for what in order}, -(-runs // LOADS)).items():
      rounds[what] += times
  for what, content in contents.items():
    stats, to_float, model = host.stats(rounds[what]), ratio(rounds[what], rounds["float32"]), TFLiteModel(content)
    found[what] = {
      "bytes": len(content),
      "partitions": model.partitions,
      "operators": sum(model.ops.values()),
      "ms": round(stats.median_ms, 3),
      "ms_quartiles": [round(stats.p25_ms, 3), round(stats.p75_ms, 3)],
      "ratio": round(to_float.median, 3),
      "ratio_quartiles": [round(to_float.p25, 3), round(to_float.p75, 3)],
    }
  found["float32"]["versions"] = {"ai-edge-litert": metadata.version("ai-edge-litert")}
  return found


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: milliseconds of the float32 file, and the ratios of the others to it."""
  others = list(dict.fromkeys(what for r in results for what in r["figures"] if what != "float32"))
  lines = ["| network | float32, ms | " + " | ".join(f"{what}, × float32" for what in others) + " | MB, float32 and int8 |"]
  lines.append("|---" * (3 + len(others)) + "|")
  for r in results:
    metrics = r["figures"]
    cells = [r["case"]["network"], _with_quartiles(metrics["float32"]["ms"], metrics["float32"]["ms_quartiles"])]
    cells += [_with_quartiles(f["ratio"], f["ratio_quartiles"]) if (f := metrics.get(what)) else "" for what in others]
    cells.append(" and ".join(f"{metrics[what]['bytes'] / 1e6:.1f}" for what in ("float32", "int8")))
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def _with_quartiles(value: float, quartiles: Sequence[float]) -> str:
  return "{:.2f} ({:.2f} to {:.2f})".format(value, *quartiles)


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--networks", type=several(NETWORKS), default=NETWORKS, help="separated by commas")
  options.add_argument("--runs", type=int, default=400, help="measured invocations of each file")
  options.add_argument("--out", type=pathlib.Path, help="JSON to write; other networks that it has stay")
  given = options.parse_args()
  results = []
  for network in given.networks:
    print(f"{network} ...", file=sys.stderr, flush=True)
    results.append({"case": {"network": network}, "figures": measure(files(network), given.runs)})
    if given.out:
      write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
