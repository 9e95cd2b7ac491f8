"""Detection: losses whose normalizer is global, exact figures over any devices, and what a config cannot have."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures import fields
from mnv3_jax.boxes.suppression import Detections
from mnv3_jax.config import base
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.models.ssdlite import SSDOutputs
from mnv3_jax.tasks.detection import Detection
from mnv3_jax.tasks.sums import add_sums

CLASSES = ("cat", "dog", "boat")
CONVENTIONS = ("tensorflow", "torchvision")
AXIS = "devices"
# of boxes in a batch
TRAINING = ("boxes", "label", "crowd")


@functools.cache
def task_of(convention, num_classes=3):
  architecture = fields.architecture(
    "mobilenetv3_small", width=0.25, resolution=64, head="ssdlite", head_convention=convention, num_classes=num_classes
  )
  config = base()
  return Detection.from_config(config, architecture, CLASSES[:num_classes])


def batch_of(rng, n=16, rows=6, empty=0.2):
  """Boxes of any number from 0 to `rows` in each image, a few of them crowds; padding rows are -1."""
  corners = np.sort(rng.random((n, rows, 2, 2), np.float32), 2)
  boxes = corners.reshape(n, rows, 4)
  count = np.where(rng.random(n) < empty, 0, rng.integers(1, rows + 1, n))
  real = np.arange(rows) < count[:, None]
  boxes = np.where(real[..., None], boxes, 0)
  size = np.tile(np.array([80, 120], np.float32), (n, 1))
  return {
    "boxes": boxes,
    "label": np.where(real, rng.integers(3, size=(n, rows)), -1).astype(np.int32),
    "crowd": real & (rng.random((n, rows)) < 0.1),
    "area": (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) * np.float32(80 * 120),
    "size": size,
    "number": np.arange(n, dtype=np.int32),
  }


def outputs_of(rng, task, n=16):
  """Outputs of a network with random weights: confident in some anchors."""
  anchors = len(task.anchors)
  codes = rng.normal(size=(n, anchors, 4)).astype(np.float32)
  return SSDOutputs(codes, 3 * rng.normal(size=(n, anchors, 1 + task.num_classes)).astype(np.float32) - 3)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(task, outputs, batch):
  return task.loss(outputs, {name: batch[name] for name in TRAINING})


@functools.partial(jax.jit, static_argnums=0)
def gradient_of(task, outputs, batch):
  return jax.value_and_grad(task.loss)(outputs, {name: batch[name] for name in TRAINING})


@functools.partial(jax.jit, static_argnums=0)
def sums_of(task, outputs, batch):
  return task.sums(outputs, batch)


def divided(tree, *parts):
  return jax.tree.map(lambda x: x.reshape(*parts, len(x) // np.prod(parts), *x.shape[1:]), tree)


def on_devices(task, codes, logits, batch, accumulate):
  """Loss and gradient as the training step computes them, on the first axis as devices."""
  batch = task.prepare(batch, AXIS)

  def objective(outputs, part):
    return task.loss(outputs, part)

  parts = divided((SSDOutputs(codes, logits), batch), accumulate)
  loss, gradient = jax.vmap(jax.value_and_grad(objective))(*parts)
  return jax.lax.pmean(loss.mean(), AXIS), jax.tree.map(
    lambda g: g.reshape(codes.shape[0], *g.shape[2:]) / accumulate, gradient
  )


CASES = [("tensorflow", 2, 1), ("tensorflow", 8, 1), ("tensorflow", 2, 2), ("torchvision", 8, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("convention", "devices", "accumulate"), CASES)
def test_the_normalizer_is_that_of_the_whole_batch(convention, devices, accumulate):
  """1 device of 16 images is 2 of 8, 8 of 2, and any accumulation: the loss, and the gradient of every output."""
  task, rng = task_of(convention), np.random.default_rng(0)
  batch, outputs = batch_of(rng), outputs_of(rng, task)
  batch = {name: batch[name] for name in TRAINING}
  loss, gradient = gradient_of(task, outputs, batch)
  assert np.isfinite(loss) and loss > 0
  mapped = jax.jit(jax.vmap(lambda o, b: on_devices(task, *o, b, accumulate), axis_name=AXIS))
  found, parts = mapped(*divided((outputs, batch), devices))
  np.testing.assert_allclose(found, np.full(devices, loss), rtol=1e-6)
  # gradients are averaged over devices
  for one, other in zip(gradient, parts, strict=True):
    np.testing.assert_allclose(np.asarray(other).reshape(one.shape) / devices, one, rtol=1e-4, atol=1e-8)
  # a normalizer of each device would be another loss of this batch
  own = jax.jit(jax.vmap(task.loss))(*divided((outputs, batch), devices))
  assert abs(np.mean(own) / loss - 1) > 1e-3


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6), convention=st.sampled_from(CONVENTIONS))
def test_order_and_padding_of_boxes_change_no_bit(seed, convention):
  task, rng = task_of(convention), np.random.default_rng(seed)
  batch, outputs = batch_of(rng, n=4), outputs_of(rng, task, n=4)
  order = rng.permuted(np.tile(np.arange(9), (4, 1)), axis=1)
  filled = {
    "boxes": np.concatenate([batch["boxes"], rng.random((4, 3, 4), np.float32)], 1),
    "label": np.concatenate([batch["label"], np.full((4, 3), -1, np.int32)], 1),
    "crowd": np.concatenate([batch["crowd"], np.zeros((4, 3), bool)], 1),
  }
  shuffled = {k: np.take_along_axis(v, order.reshape(4, 9, *[1] * (v.ndim - 2)), 1) for k, v in filled.items()}
  losses = [np.asarray(loss_of(task, outputs, {k: b[k] for k in TRAINING})) for b in (batch, filled, shuffled)]
  assert losses[0].tobytes() == losses[1].tobytes() == losses[2].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_images_without_boxes_are_finite_and_teach(convention):
  """The focal loss of the background has a gradient; hard negatives are three per positive, which is none."""
  task, rng = task_of(convention), np.random.default_rng(1)
  batch, outputs = batch_of(rng, n=3, empty=1), outputs_of(rng, task, n=3)
  loss, gradient = gradient_of(task, outputs, batch)
  assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradient)
  assert not np.any(gradient.codes)
  assert bool(np.any(gradient.logits)) == (convention == "tensorflow") == bool(loss > 0)
  # beside an image with boxes too
  mixed = {k: np.concatenate([v, batch_of(rng, n=1, empty=0)[k]]) for k, v in batch.items()}
  _, gradient = gradient_of(task, outputs_of(rng, task, n=4), mixed)
  assert all(np.isfinite(g).all() for g in gradient) and np.any(gradient.codes[3]) and not np.any(gradient.codes[:3])


def test_loss_and_sums_are_one_figure():
  task, rng = task_of("tensorflow"), np.random.default_rng(2)
  batch, outputs = batch_of(rng), outputs_of(rng, task)
  total = {}
  for part in (slice(0, 8), slice(8, 16)):
    sums = sums_of(task, jax.tree.map(lambda x, part=part: x[part], outputs), {k: v[part] for k, v in batch.items()})
    add_sums(total, jax.device_get(sums))
  metrics = task.metrics(total)
  assert metrics["loss"] == pytest.approx(float(loss_of(task, outputs, batch)), rel=1e-5) and metrics["count"] == 16
  assert metrics["loss"] == pytest.approx(metrics["class_loss"] + metrics["box_loss"])
  # masked images count in nothing, whatever is in them
  mask = np.array([1.0] * 8 + [0.0] * 8, np.float32)
  broken = SSDOutputs(*(np.where(mask.reshape(-1, 1, 1) > 0, x, np.nan) for x in outputs))
  masked = jax.device_get(sums_of(task, broken, {**batch, "mask": mask}))
  first = jax.device_get(sums_of(task, jax.tree.map(lambda x: x[:8], outputs), {k: v[:8] for k, v in batch.items()}))
  assert masked == pytest.approx(first, rel=1e-6) and masked["count"] == 8
  assert json.loads(json.dumps(task.metrics({k: 0.0 for k in total})))["loss"] == 0


def evaluated(task, outputs, batch, devices=1, batches=1):
  """Returns the metrics over `batches` batches, each divided among `devices`."""
  accumulator = task.accumulator()

  def step(o, b):
    return task.reduce(task.eval_outputs(o, b), AXIS)

  mapped = jax.jit(jax.vmap(step, axis_name=AXIS))
  parts = divided((outputs, batch), batches, devices)
  for i in range(batches):
    trees = jax.device_get(mapped(*jax.tree.map(lambda x, i=i: x[i], parts)))
    # every device has all images
    assert all((tree[0] == tree[-1]).all() for tree in trees.values())
    accumulator.add({name: tree[0] for name, tree in trees.items()})
  return accumulator.result()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_figures_are_those_of_one_device(convention):
  task, rng = task_of(convention), np.random.default_rng(3)
  batch, outputs = batch_of(rng), outputs_of(rng, task)
  batch["mask"] = (np.arange(16) < 13).astype(np.float32)
  one = evaluated(task, outputs, batch)
  assert one["count"] == 13 and 0 < one["ar100"] < 1 and one["loss"] > 0
  shown = {k: v[:13] for k, v in batch.items()}
  assert one["loss"] == pytest.approx(float(loss_of(task, jax.tree.map(lambda x: x[:13], outputs), shown)), rel=1e-5)
  for devices, batches in ((8, 1), (2, 4)):
    assert evaluated(task, outputs, batch, devices, batches) == pytest.approx(one, rel=1e-6, abs=1e-9)


def truth_as_detections(batch, rows=8):
  """Detections that are the truth, the crowds left out."""
  m = batch["label"].shape[1]
  kept = (batch["label"] >= 0) & ~batch["crowd"]
  order = np.argsort(~kept, 1, kind="stable")
  pad = ((0, 0), (0, rows - m))
  label = np.pad(np.take_along_axis(np.where(kept, batch["label"], -1), order, 1), pad, constant_values=-1)
  boxes = np.pad(np.take_along_axis(batch["boxes"], order[..., None], 1), (*pad, (0, 0)))
  boxes = np.where(label[..., None] >= 0, boxes, 0).astype(np.float32)
  scores = np.where(label >= 0, 0.9, 0).astype(np.float32)
  return Detections(boxes=boxes, scores=scores, label=label, count=kept.sum(1).astype(np.int32))


def test_detections_equal_to_the_truth_are_right():
  task, rng = task_of("tensorflow"), np.random.default_rng(4)
  batch = batch_of(rng)
  accumulator = task.accumulator()
  accumulator.add(jax.device_get(jax.jit(task.eval_outputs)(truth_as_detections(batch), batch)))
  metrics = accumulator.result()
  assert (metrics["ap"], metrics["ap50"], metrics["ap75"], metrics["ar100"]) == (1, 1, 1, 1) and "loss" not in metrics
  assert {metrics[f"ap/{name}"] for name in CLASSES} == {1}
  assert task.lines(metrics)[0] == "AP 1.0000  AP50 1.0000  AP75 1.0000"
  # another label is wrong
  wrong = truth_as_detections(batch)
  wrong = wrong._replace(label=np.where(wrong.label >= 0, (wrong.label + 1) % 3, -1).astype(np.int32))
  accumulator = task.accumulator()
  accumulator.add(jax.device_get(jax.jit(task.eval_outputs)(wrong, batch)))
  assert accumulator.result()["ap"] < 0.2


@pytest.mark.slow
def test_codes_of_the_truth_are_detected():
  """Through matching, codes and post-processing: outputs made of the targets give the boxes that anchors have matched."""
  task, rng = task_of("tensorflow"), np.random.default_rng(5)
  batch = batch_of(rng, rows=1, empty=0)
  batch["crowd"][:] = False
  prepared = jax.jit(lambda b: task.prepare(b, None))({k: batch[k] for k in TRAINING})
  slot = np.asarray(prepared["slot"])[..., None]
  # the background is no class of the focal loss
  logits = np.where((np.arange(4) == slot) & (slot > 0), 12, -12).astype(np.float32)
  assert evaluated(task, SSDOutputs(np.asarray(prepared["codes"]), logits), batch)["ap"] == 1
  assert loss_of(task, SSDOutputs(prepared["codes"], logits), batch) < 1e-3


def test_no_test_image_with_a_box():
  task, rng = task_of("tensorflow"), np.random.default_rng(6)
  batch = batch_of(rng, n=2, empty=1)
  with pytest.raises(FatalError, match="none of 2 test images has a box"):
    evaluated(task, outputs_of(rng, task, n=2), batch)


@pytest.mark.slow
def test_a_fake_batch_is_a_batch():
  task, rng = task_of("tensorflow"), np.random.default_rng(7)
  batch = task.fake_batch(4, (64, 48), 3, rng)
  assert batch["image"].shape == (4, 64, 48, 3) and {len(v) for v in batch.values()} == {4}
  assert (batch["boxes"][..., :2] < batch["boxes"][..., 2:]).all() and set(np.unique(batch["label"])) == {0, 1, 2}
  outputs = outputs_of(rng, task, n=4)
  _, gradient = gradient_of(task, outputs, batch)
  assert np.any(gradient.codes) and np.any(gradient.logits) and all(np.isfinite(g).all() for g in gradient)
  assert evaluated(task, outputs, {k: v for k, v in batch.items() if k != "image"})["count"] == 4


def test_bfloat16_outputs_are_counted_in_float32():
  """Network outputs are float32 already; what a caller has in bfloat16 gives no other type of loss."""
  task, rng = task_of("tensorflow"), np.random.default_rng(8)
  batch, outputs = batch_of(rng), outputs_of(rng, task)
  half = SSDOutputs(*(jnp.asarray(x, jnp.bfloat16) for x in outputs))
  loss = loss_of(task, half, batch)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, loss_of(task, outputs, batch), rtol=0.01)


def test_what_a_config_cannot_have():
  architecture = fields.architecture("mobilenetv3_small", width=0.25, resolution=64, head="ssdlite", num_classes=3)

  def refused(section, **changes):
    config = base()
    (config[section] if section else config).update(changes)
    with pytest.raises(UsageError) as caught:
      Detection.from_config(config, architecture, CLASSES)
    return str(caught.value)

  assert "label_smoothing=0.1 for detection; expected 0" in refused("train", label_smoothing=0.1)
  assert "quantize_aware=True for detection; expected False" in refused(None, quantize_aware=True)
  # one class beside the background is a detector
  one = task_of("tensorflow", 1)
  rng = np.random.default_rng(9)
  batch, outputs = batch_of(rng), outputs_of(rng, one)
  batch["label"] = np.minimum(batch["label"], 0)
  assert np.isfinite(loss_of(one, outputs, batch)) and set(evaluated(one, outputs, batch)) > {"ap", "ap/cat"}
  with pytest.raises(UsageError, match="invalid argmax=True for detection; it has postprocess"):
    Detection.export_outputs(architecture, argmax=True)
  with pytest.raises(UsageError, match="postprocess='fast'"):
    Detection.export_outputs(architecture, postprocess="fast")
  with pytest.raises(UsageError, match="invalid flip=True for detection"):
    one.with_options(flip=True)


def test_labels_that_nobody_named_have_names():
  task = dataclasses.replace(task_of("tensorflow"), classes=("cat",))
  rng = np.random.default_rng(10)
  assert {"ap/cat", "ap/class 1", "ap/class 2"} <= set(evaluated(task, outputs_of(rng, task), batch_of(rng)))
