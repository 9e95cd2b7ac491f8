"""Latency of segmentation .tflite files beside the same network through TensorFlow's converter; 1 thread, interleaved.

python benchmarks/segmentation.py [--networks mobilenetv3_small,...] [--heads lr_aspp,...] [--size 512x1024] [--out FILE.json]

Weights are random: latency does not depend on them. TensorFlow's graph is written here in TensorFlow's own operators, one for
each operation of the network, with the same weights; it has no superfluous operators, and gives the same logits. Further files:
bilinear scaling left to the converter, 8-bit arithmetic, and the argmax inside.

Times are processor time, on which other processes have little influence; medians, and ratios round by round.
"""

import argparse
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import jax
import numpy as np
from speed import several, write

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.architectures.heads import LRASPPHead, RASPPHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.commands.options import start_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.export import quantize, runtime, tflite
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.models import segmenter
from mnv3_jax.tasks.job import task_class
from mnv3_jax.types import Variables

HEADS = (LRASPPHead.name, RASPPHead.name)
NETWORKS = ("mobilenetv3_small", "mobilenetv3_large", "mobilenetv2")
OURS, THEIRS = "float32", "TensorFlow's converter"
# times that all files are loaded: the place of the weights in memory makes up to 4 % of a file's time
LOADS = 4
# largest allowed difference of a logit between the two, relative to the largest logit
TOLERANCE = 1e-3


def files(architecture: Architecture) -> dict[str, bytes]:
  """Returns the .tflite files of a network by variant."""
  variables, images = random_weights(architecture)
  found = {OURS: tflite.convert_float(architecture, variables), THEIRS: by_tensorflow(architecture, variables)}
  ours, theirs = (runtime.TFLiteModel(content)(images[:1]) for content in found.values())
  if not np.abs(ours - theirs).max() <= TOLERANCE * np.abs(ours).max():
    raise SystemExit(f"networks differ: largest difference of a logit is {np.abs(ours - theirs).max():.2g}")

  def left_to_the_converter(x_bhwc, size, formulation):
    return jax.image.resize(x_bhwc, (len(x_bhwc), *size, x_bhwc.shape[3]), "bilinear", antialias=False)

  with mock.patch.object(segmenter, "bilinear", left_to_the_converter):
    detours = tflite.convert_float(architecture, variables)
  try:
    runtime.TFLiteModel(detours)
    found["scaling left to the converter"] = detours
  except UsageError as error:
    print(f"  scaling left to the converter: {error}", file=sys.stderr)
  found["argmax"] = tflite.convert_float(
    architecture, variables, outputs=task_class(architecture).export_outputs(architecture, argmax=True)
  )
  for what, content in (("int8", found[OURS]), ("int8, argmax", found["argmax"])):
    found[what] = quantize.quantize(content, "int8", [x[None] for x in images])
  return found


def by_tensorflow(a: Architecture, variables: Variables) -> bytes:
  """Builds the network in TensorFlow and converts it."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  import tensorflow as tf

  params, statistics = variables["params"], variables["batch_stats"]
  backbone = params["backbone"], statistics["backbone"]
  functions = {
    "linear": lambda x: x,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "hard_swish": lambda x: x * tf.nn.relu6(x + 3) * np.float32(1 / 6),
    "hard_sigmoid": lambda x: tf.nn.relu6(x + 3) * np.float32(1 / 6),
    "sigmoid": tf.sigmoid,
  }

  def normed(x, of, row, activation, epsilon, stride=1, dilation=1, depthwise=False):
    for name in row.split("/"):
      of = tuple(part[name] for part in of)
    (w, norm), (mean, var) = (of[0]["kernel"], of[0]["bn"]), (of[1]["bn"]["mean"], of[1]["bn"]["var"])
    if depthwise:
      strides = [1, stride, stride, 1]
      x = tf.nn.depthwise_conv2d(x, w.transpose(0, 1, 3, 2), strides, "SAME", dilations=[dilation, dilation])
    else:
      x = tf.nn.conv2d(x, w, stride, "SAME")
    factor = norm["scale"] / np.sqrt(var + epsilon)
    return functions[activation](x * factor + (norm["bias"] - mean * factor))

  def biased(x, of):
    x = tf.nn.conv2d(x, of["kernel"], 1, "SAME")
    return x + of["bias"] if "bias" in of else x

  def up(x, like):
    return tf.image.resize(x, like) if tuple(x.shape[1:3]) != tuple(like) else x

  def forward(image):
    x = normed(image, backbone, "stem", a.stem.activation, a.bn_epsilon, a.stem.stride)
    inner = {}
    for name, channels, b in a.rows():
      given = x
      if b.expand != channels:
        x = normed(x, backbone, f"{name}/expand", b.activation, a.bn_epsilon)
      x = normed(x, backbone, f"{name}/depthwise", b.activation, a.bn_epsilon, b.stride, b.dilation, depthwise=True)
      inner[f"{name}/depthwise"] = x
      if b.se is not None:
        se = backbone[0][name]["se"]
        squeezed = tf.nn.relu(biased(tf.reduce_mean(x, (1, 2), keepdims=True), se["reduce"]))
        x = x * functions[b.se.gate](biased(squeezed, se["expand"]))
      x = normed(x, backbone, f"{name}/project", b.project_activation, a.bn_epsilon)
      x = given + x if b.adds_input(channels) else x
      inner[name] = x
    if a.features is not None:
      x = normed(x, backbone, "features", a.features.activation, a.bn_epsilon)
    s, head, size = a.head, (params, statistics), tuple(x.shape[1:3])
    kernel, strides = s.window(size)
    whole = tuple(kernel) == size
    pool = tf.reduce_mean(x, (1, 2), keepdims=True) if whole else tf.nn.avg_pool2d(x, kernel, strides, "VALID")
    x = normed(x, head, "filter", "relu", s.bn_epsilon)
    if isinstance(s, RASPPHead):
      pool = up(normed(pool, head, "pooled", "relu", s.bn_epsilon), size)
      x = biased(normed(tf.concat([x, pool], -1), head, "merge", "relu", s.bn_epsilon), params["logits"])
    else:
      gate, skip = functions[s.gate](biased(pool, params["gate"])), inner[s.skip_map(a)[0]]
      x = x * (gate if tuple(gate.shape[1:3]) == (1, 1) else up(gate, size))
      x = biased(up(x, skip.shape[1:3]), params["logits"]) + biased(skip, params["skip_logits"])
    return up(x, image.shape[1:3])

  spec = tf.TensorSpec((1, *a.image_shape), tf.float32)
  concrete = tf.function(forward, input_signature=[spec], autograph=False).get_concrete_function()
  with runtime.quiet():
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()


def measure(contents: Mapping[str, bytes], runs: int) -> dict[str, dict[str, Any]]:
  """Times files, interleaved and loaded in both orders, and returns their metrics."""
  ms, found = {what: [] for what in contents}, {}
  for load in range(LOADS):
    networks = {what: runtime.TFLiteModel(contents[what]) for what in list(contents)[:: 1 if load % 2 else -1]}
    for network in networks.values():
      x = np.random.default_rng(0).uniform(-1, 1, network.input_shape).astype(np.float32)
      network.interpreter.set_tensor(network.input["index"], x)
      network.interpreter.invoke()
    for _ in range(-(-runs // LOADS)):
      for what, network in networks.items():
        # the first invocation brings its weights and maps back into the caches
        network.interpreter.invoke()
        began = time.thread_time()
        network.interpreter.invoke()
        ms[what].append(1000 * (time.thread_time() - began))
  networks = {what: networks[what] for what in contents}
  for what, network in networks.items():
    low, median, high = np.percentile(ms[what], (25, 50, 75))
    ratios = np.percentile(np.divide(ms[what], ms[THEIRS]), (25, 50, 75))
    found[what] = {
      "ms": round(median, 2),
      "ms_quartiles": [round(low, 2), round(high, 2)],
      "ratio": round(ratios[1], 3),
      "ratio_quartiles": [round(ratios[0], 3), round(ratios[2], 3)],
      "operators": network.ops,
      "partitions": network.partitions,
      "outside": network.outside,
    }
  return found


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: times, and ratios to TensorFlow's file."""
  lines = ["| network | head | size | file | ms | × TensorFlow's | operators | partitions | not XNNPACK |", "|---" * 9 + "|"]
  for r in results:
    for what, f in r["figures"].items():
      between = "{:.3f} to {:.3f}".format(*f["ratio_quartiles"])
      outside = ", ".join(f"{n} {op}" for op, n in f["outside"].items())
      cells = [r["case"]["network"], r["case"]["head"], r["case"]["size"], what, f["ms"], f"{f['ratio']:.3f} ({between})"]
      lines.append("| " + " | ".join(map(str, [*cells, sum(f["operators"].values()), f["partitions"], outside])) + " |")
  return "\n".join(lines)


def size(text: str) -> int | tuple[int, int]:
  """Parses 512x1024 as a size (argparse type)."""
  if not re.fullmatch(r"\d+x\d+", text):
    raise argparse.ArgumentTypeError(f"invalid value {text!r}; expected HEIGHTxWIDTH, such as 512x1024")
  return sizes.from_sides(*map(int, text.split("x")))


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--networks", type=several(NETWORKS), default=NETWORKS, help="separated by commas")
  options.add_argument("--heads", type=several(HEADS), default=HEADS, help="separated by commas")
  options.add_argument("--size", type=size, default="512x1024", help="height x width")
  options.add_argument("--output_stride", type=int, choices=(16, 32), default=16)
  options.add_argument("--runs", type=int, default=40, help="measured invocations of each file")
  options.add_argument("--out", type=pathlib.Path, help="JSON to write; other cases that it has stay")
  given = options.parse_args()
  start_jax()
  results = []
  for network in given.networks:
    for head in given.heads:
      a = fields.architecture(
        network, head=head, output_stride=given.output_stride, halved_tail="segmentation", num_classes=19
      ).replace(resolution=given.size)
      case = {"network": network, "head": head, "size": sizes.pixels(given.size), "output_stride": given.output_stride}
      print(f"{network}, {head} ...", file=sys.stderr, flush=True)
      results.append({"case": case, "figures": measure(files(a), given.runs)})
      if given.out:
        write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
