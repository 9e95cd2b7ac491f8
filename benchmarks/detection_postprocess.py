"""Time of TFLite_Detection_PostProcess, post-processing inside a .tflite file, by profile and least score; 1 thread.

python benchmarks/detection_postprocess.py [--runs 100] [--out FILE.json]

The file takes codes and logits: the sigmoid or softmax alone, and with the operator behind it. Logits are normal (sigmoid: mean
-7, deviation 1.5; softmax: deviation 1.5, the background 7 higher), so that about half of the scores of 90 classes are above
0.001: a trained network has fewer. Milliseconds are processor time of the one thread, which other processes hardly lengthen.
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
from speed import write

from mnv3_jax.architectures.conventions import CONVENTIONS, Convention
from mnv3_jax.boxes.detection_operator import detection_operator, operator_inputs
from mnv3_jax.export.converter import convert
from mnv3_jax.export.detection_postprocess import append_operator
from mnv3_jax.export.runtime import TFLiteModel

CLASSES, WARMUP = 90, 5
# anchors of a 320 px detector
ANCHORS = {"tensorflow": 2034, "torchvision": 3234}
# (profile, least score); None is the profile's own
CASES = (("none", None), ("device", None), ("evaluate", 0.05), ("evaluate", 0.001), ("evaluate", 1e-8))


def inputs(convention: Convention, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns random codes (1, n, 4), logits (1, n, 1 + classes), and anchors (n, 4) of many sizes over the image."""
  rng = np.random.default_rng(seed)
  sides = np.exp(rng.uniform(np.log(0.05), np.log(0.9), (n, 2)))
  anchors = np.concatenate([rng.random((n, 2)), sides], 1).astype(np.float32)
  logits = rng.normal(-7, 1.5, (1, n, 1 + CLASSES)).astype(np.float32)
  if convention.scores == "softmax":
    logits[..., 1:] += 7
    logits[..., 0] = 7
  return rng.normal(0, 1, (1, n, 4)).astype(np.float32), logits, anchors


def milliseconds(content: bytes, codes: np.ndarray, logits: np.ndarray, runs: int) -> list[float]:
  """Returns the quartiles of the processor time of a file's invocations."""
  interpreter = TFLiteModel(content).interpreter
  for detail, value in zip(interpreter.get_input_details(), (codes, logits), strict=True):
    interpreter.set_tensor(detail["index"], value)
  times = []
  for _ in range(WARMUP + runs):
    before = time.thread_time()
    interpreter.invoke()
    times.append(1e3 * (time.thread_time() - before))
  return [round(float(q), 3) for q in np.percentile(times[WARMUP:], (25, 50, 75))]


def measure(convention: Convention, runs: int) -> list[dict[str, Any]]:
  """Times the profiles of a convention."""
  n, results = ANCHORS[convention.name], []
  codes, logits, anchors = inputs(convention, n)
  shapes = [jax.ShapeDtypeStruct(x.shape, np.float32) for x in (codes, logits)]
  raw = convert(lambda codes, logits: operator_inputs(codes, logits, convention), *shapes)
  for profile, score in CASES:
    operator = detection_operator(profile, convention, CLASSES, anchors)
    if operator and score is not None:
      operator = dataclasses.replace(operator, score_threshold=score)
    low, median, high = milliseconds(append_operator(raw, operator) if operator else raw, codes, logits, runs)
    case = {"convention": convention.name, "anchors": n, "profile": profile}
    case |= {"least_score": operator.score_threshold} if operator else {}
    versions = {"ai-edge-litert": metadata.version("ai-edge-litert")}
    results.append({"case": case, "figures": {"float32": {"ms": median, "ms_quartiles": [low, high], "versions": versions}}})
  return results


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown."""
  lines = ["| convention | anchors | postprocess | least score | ms |", "|---|---|---|---|---|"]
  for r in results:
    case, found = r["case"], r["figures"]["float32"]
    score = f"{case['least_score']:g}" if "least_score" in case else ""
    low, high = found["ms_quartiles"]
    ms = f"{found['ms']:.2f} ({low:.2f} to {high:.2f})"
    lines.append(f"| {case['convention']} | {case['anchors']} | {case['profile']} | {score} | {ms} |")
  return "\n".join(lines)


def main() -> None:
  """Runs the command line."""
  options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  options.add_argument("--runs", type=int, default=100, help="measured invocations of each file")
  options.add_argument("--out", type=pathlib.Path, help="JSON to write")
  given = options.parse_args()
  results = [r for convention in CONVENTIONS.values() for r in measure(convention, given.runs)]
  if given.out:
    write(given.out, results)
  print(table(results))


if __name__ == "__main__":
  main()
