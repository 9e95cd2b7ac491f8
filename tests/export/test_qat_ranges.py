"""Ranges that were kept in training are those of the file."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import tiny_architecture
from tiny_network import universal_network

from mnv3_jax.architectures import edits
from mnv3_jax.errors import FatalError
from mnv3_jax.export import graph, runtime, tflite as exporting
from mnv3_jax.export.qat_ranges import match_ranges
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.models import fake_quantization
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.tasks import agreement


def trained(a):
  """(variables with ranges of 32 images and a bit more, these images)."""
  variables, images = random_weights(a, num_images=32)
  model = Classifier(a, exporting.ROUNDED)
  _, changed = model.apply(variables, images, mutable=["batch_stats"])
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
  assert exported.agreement.snr_db > 15 and exported.agreement.snr_db > own.agreement.snr_db


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
  with pytest.raises(FatalError, match=r"ADD of block_01 has shape \(1, 8, 8, 8\); expected .*block_02"):
    match_ranges(operators, [kept[0], *kept[2:]])


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
