"""Ranges that were kept in training are those of the file."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import tiny_architecture
from test_segmenter_files import WIDE, little, segmenter
from tiny_network import universal_network

from mnv3_jax.architectures import edits
from mnv3_jax.errors import FatalError
from mnv3_jax.export import graph, runtime, tflite as exporting
from mnv3_jax.export.qat_ranges import match_ranges
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.models import fake_quantization
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.network import network
from mnv3_jax.tasks import agreement
from mnv3_jax.tasks.agreement import MIN_SNR_DB_RANDOM
from mnv3_jax.tasks.job import task_class

# least agreement of files of five blocks with the rounded network, whose stem "int8_integer" rounds as well; in whole networks
# of random weights the neighbour that one value is rounded to changes the more, the more rows come after it
LEAST_DB = {"int8": 15, "int8_integer": 8}
# one processor's rounding gave a network of universal blocks 14.8 as "int8_integer", another's more than 15
LEAST_OF_CLASSIFIERS = {"int8": 15, "int8_integer": 14}


def trained(a, n=32):
  """(variables with ranges of n images and a bit more, these images)."""
  variables, images = random_weights(a, num_images=n)
  model = network(a, exporting.ROUNDED)
  _, changed = jax.jit(lambda *x: model.apply(*x, mutable=["batch_stats"]))(variables, images)
  stretched = jax.tree_util.tree_map_with_path(
    lambda path, x: 1.1 * x if fake_quantization.is_range(jax.tree_util.keystr(path)) else x, changed["batch_stats"]
  )
  return {**variables, "batch_stats": jax.device_get(stretched)}, images


EDITS = {
  "h-swish": lambda a: a,
  "swish": lambda a: edits.h_swish_as(a, "swish"),
  "relu6": lambda a: edits.h_swish_as(a, "relu6"),
  "sigmoid": lambda a: edits.with_se(a, gate="sigmoid"),
  "no hidden": lambda a: a.replace(head=dataclasses.replace(a.head, hidden=None)),
  "universal and fused blocks": lambda a: universal_network().replace(resolution=32),
  "pixels of one": lambda a: a.replace(resolution=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", [pytest.param(edit, id=name) for name, edit in EDITS.items()])
@pytest.mark.parametrize("kind", ["int8", pytest.param("int8_integer", marks=pytest.mark.nightly)])
def test_the_file_rounds_as_training_did(edit, kind, tmp_path, monkeypatch):
  a = edit(tiny_architecture())
  variables, images = trained(a)
  # calibration on one image alone would give other ranges
  exported = exporting.write_tflite(
    a, variables, tmp_path / "m", images, exporting.TFLiteOptions(quantization=kind, qat=True), calibration=images[:1]
  )
  kept = fake_quantization.ranges(Classifier(a, exporting.ROUNDED), variables)
  operators = graph.operators(exporting.convert_float(a, variables, fused=kind == "int8"))
  placed = match_ranges(operators, kept)
  steps = {}
  for tensor in runtime.TFLiteModel(exported.content, transparent=True).interpreter.get_tensor_details():
    scale, _ = tensor["quantization"]
    if scale:
      steps.setdefault(tensor["name"], set()).add(round(float(255 * scale), 4))
  widths = {name: max(high, 0) - min(low, 0) for name, (low, high) in placed.items()}
  found = {name: [w for tensor, ws in steps.items() if tensor.startswith(name) for w in ws] for name in widths}
  # LiteRT fixes the range of a sigmoid's output
  free = [op.scope for op in operators if op.scope in widths and op.type != "LOGISTIC"]
  assert len(free) >= 15
  for name in free:
    assert any(w == pytest.approx(widths[name], rel=1e-3) for w in found[name]), name
  if a.resolution == 4:
    # what one image of one pixel says of its ranges may be better or worse
    return
  monkeypatch.setitem(agreement.MIN_SNR_DB, kind, -9.0)
  own = exporting.write_tflite(
    a, variables, tmp_path / "n", images, exporting.TFLiteOptions(quantization=kind), calibration=images[:1]
  )
  assert exported.agreement.snr_db > LEAST_OF_CLASSIFIERS[kind] and exported.agreement.snr_db > own.agreement.snr_db


@pytest.mark.slow
def test_other_maps_than_the_files_are_refused():
  a = tiny_architecture()
  variables, _ = trained(a)
  kept = fake_quantization.ranges(Classifier(a, exporting.ROUNDED), variables)
  operators = graph.operators(exporting.convert_float(a, variables))
  with pytest.raises(FatalError, match="expected no map"):
    match_ranges(operators, kept[:-1])
  with pytest.raises(FatalError, match="no operator computes logits"):
    match_ranges(operators, [*kept, kept[-1]])
  with pytest.raises(FatalError, match=r"ADD of block_01 has shape \(1, 8, 8, 8\); expected no map"):
    match_ranges(operators, [kept[0], *kept[2:]])


# every operator of a head that a range is for, in the file's order
LR_ASPP = ["CONV_2D", "MEAN", "CONV_2D", "LOGISTIC", "MUL", "RESIZE_BILINEAR", "CONV_2D", "CONV_2D", "ADD", "RESIZE_BILINEAR"]
R_ASPP = ["CONV_2D", "MEAN", "CONV_2D", "RESIZE_BILINEAR", "CONCATENATION", "CONV_2D", "CONV_2D", "RESIZE_BILINEAR"]
WINDOWS = {"MEAN": "AVERAGE_POOL_2D"}
HARD = [*LR_ASPP[:2], "CONV_2D", "MUL", *LR_ASPP[4:]]
SCALED_GATE = [*LR_ASPP[:4], "RESIZE_BILINEAR", *LR_ASPP[4:]]


@pytest.mark.parametrize(
  ("a", "types"),
  [
    (little(), LR_ASPP),
    pytest.param(little(**WIDE), [WINDOWS.get(type_, type_) for type_ in SCALED_GATE], marks=pytest.mark.slow),
    (little("r_aspp", **WIDE), [WINDOWS.get(type_, type_) for type_ in R_ASPP]),
    pytest.param(little(gate="hard_sigmoid", gate_bias=False, skip="block", size=(67, 45)), HARD, marks=pytest.mark.slow),
    pytest.param(edits.h_swish_as(little(), "swish"), LR_ASPP, marks=pytest.mark.slow),
    pytest.param(edits.h_swish_as(little("r_aspp"), "relu6"), R_ASPP, marks=pytest.mark.slow),
  ],
  ids=["lr_aspp", "lr_aspp, windows", "r_aspp, windows", "hard sigmoid", "swish", "relu6"],
)
@pytest.mark.parametrize("fused", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_map_of_a_segmenter_has_a_range(a, types, fused):
  variables, _ = random_weights(a)
  model = network(a, exporting.ROUNDED)
  bounds = iter(range(1, 1000))
  numbered = jax.tree_util.tree_map_with_path(
    lambda path, x: _numbered(jax.tree_util.keystr(path), x, bounds), _with_ranges(model, variables)
  )
  kept = fake_quantization.ranges(model, {**variables, "batch_stats": numbered})
  operators = graph.operators(exporting.convert_float(a, variables, fused=fused))
  found = match_ranges(operators, kept)
  highs = {high for _, high in found.values()}
  # six times h-swish, where the sixth is in the next kernel
  assert [r.path for r in kept if not highs & {r.high, 6 * r.high}] == []
  head = [op for op in operators if not op.row.startswith(("block", "stem", "features"))]
  assert [op.type for op in head if op.scope in found] == types
  assert found[head[-2].scope] == found[head[-1].scope] == (0, kept[-1].high)
  assert kept[-1].path == ("total" if a.head.name == "lr_aspp" else "logits/output")


def _numbered(name, x, bounds):
  """The high bound of every range is a number of its own."""
  return np.float32(next(bounds)) if name.endswith("['high']") else x


@pytest.mark.slow
@pytest.mark.parametrize(
  "a",
  [
    little(),
    little(**WIDE),
    little("r_aspp"),
    segmenter("mobilenetv3_large", size=(64, 96), stride=16),
    pytest.param(segmenter("mobilenetv3_large", pool="release", size=(64, 512), stride=32), marks=pytest.mark.nightly),
    pytest.param(segmenter("mobilenetv3_large", "r_aspp", size=(64, 96), stride=8), marks=pytest.mark.nightly),
    segmenter("mobilenetv3_small", "r_aspp", size=(64, 96), stride=16),
    pytest.param(segmenter("mobilenetv3_small", size=(64, 96), stride=32), marks=pytest.mark.nightly),
    segmenter("mobilenetv2", "r_aspp", size=(64, 96), stride=8),
    pytest.param(segmenter("mobilenetv2", size=(64, 96), stride=16), marks=pytest.mark.nightly),
  ],
  ids=lambda a: f"{a.name}, {a.head.name}, {a.head.pool}",
)
def test_files_of_segmenters_agree_with_the_rounded_network(a, tmp_path):
  variables, images = trained(a, n=4)
  for kind in ("int8", "int8_integer"):
    options = exporting.TFLiteOptions(quantization=kind, qat=True, trained=False)
    exported = exporting.write_tflite(a, variables, tmp_path / kind, images, options, calibration=images[:1])
    assert exported.agreement.snr_db > (LEAST_DB[kind] if a.name == "tiny" else MIN_SNR_DB_RANDOM[kind]), kind


def test_the_mask_of_classes_needs_no_range():
  a = little()
  variables, _ = random_weights(a)
  model = network(a, exporting.ROUNDED)
  kept = fake_quantization.ranges(model, {**variables, "batch_stats": _with_ranges(model, variables)})
  outputs = task_class(a).export_outputs(a, argmax=True)
  assert match_ranges(graph.operators(exporting.convert_float(a, variables, outputs)), kept) == {}
  with pytest.raises(FatalError, match=r"ADD of skip_logits has shape \(1, 8, 12, 7\); expected no map"):
    match_ranges(graph.operators(exporting.convert_float(a, variables)), [r for r in kept if r.path != "total"])


def test_a_map_that_was_never_seen_has_no_range():
  a = tiny_architecture()
  variables, _ = random_weights(a)
  model = Classifier(a, exporting.ROUNDED)
  ranges = fake_quantization.ranges(model, {**variables, "batch_stats": _with_ranges(model, variables)})
  assert ranges and not match_ranges(graph.operators(exporting.convert_float(a, variables)), ranges)


def _with_ranges(model, variables):
  from mnv3_jax.models.initialize import initialize
  from mnv3_jax.training.checkpoints import flatten, unflatten

  fresh, old = initialize(model, 0), flatten(variables)
  leaves = {name: np.asarray(old.get(name, leaf)) for name, leaf in flatten(fresh).items()}
  return unflatten(fresh, leaves)["batch_stats"]
