"""The tables of names: complete, strict, and the same both ways."""

import jax
import numpy as np
import pytest
import seeds

from mnv3_jax.architectures import cost
from mnv3_jax.errors import WrongUse
from mnv3_jax.weights import keras, mapping, sources
from mnv3_jax.weights.formats import KerasLayers

EVERY = [(source, model) for source, models in sources.SOURCES.items() for model in models]
SMALL = sources.published("torchvision", "mobilenet_v3_small")


@pytest.fixture(scope="module")
def small():
  """torchvision's names and seeded arrays of V3-Small."""
  return seeds.tensors(SMALL)


@pytest.mark.parametrize(("source", "model"), EVERY)
def test_every_network_has_a_place_for_every_layer(source, model):
  published = sources.published(source, model)
  a = published.architecture()
  places = published.places(a)
  assert {layer.name for layer in cost.layers(a)} <= set(places)
  assert set(published.view) == {"mean", "std", "crop", "interpolation"}


@pytest.mark.parametrize(
  "case", [("torchvision", "mobilenet_v2", {}), ("timm", "semnasnet_100", {}), ("slim", "mobilenet_v1_0.25_128", {})]
)
def test_there_and_back(case):
  source, model, fields = case
  published = sources.published(source, model, **fields)
  a, ours = seeds.variables(published)
  theirs = mapping.to_theirs(published, a, ours)
  assert len(theirs) == len(jax.tree.leaves(ours))
  again, back = mapping.to_ours(published, theirs, "seeded")
  if published.background:
    assert again.num_classes == a.num_classes - 1
    np.testing.assert_array_equal(back["params"]["logits"]["bias"], ours["params"]["logits"]["bias"][1:])
    back["params"]["logits"] = ours["params"]["logits"]
  jax.tree.map(np.testing.assert_array_equal, back, ours)


def without(tensors, name):
  return {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda t: without(t, "features.1.block.0.1.running_var"), r"1 tensors are missing \(features.1.block.0.1.running_var\)"),
    (lambda t: {**t, "extra": np.zeros(3)}, r"1 are left over \(extra\)"),
    (
      lambda t: {**t, "features.0.0.weight": np.zeros((16, 1, 3, 3))},
      r"features.0.0.weight is \(16, 1, 3, 3\) instead of \(16, 3, 3, 3\)",
    ),
    (lambda t: {**t, "features.0.0.weight": t["features.0.0.weight"].transpose(2, 3, 1, 0)}, "have another shape"),
    (lambda t: {**t, "features.0.1.bias": np.full(16, np.nan)}, "not finite: features.0.1.bias"),
    (lambda t: {**t, "features.0.1.running_var": np.full(16, -1.0)}, "variances below 0: features.0.1.running_var"),
    (lambda t: without(t, "classifier.3.bias"), "classifier.3.bias"),
    (lambda t: {}, "and 2.. more"),
    (lambda t: {**t, "features.0.1.bias": np.zeros(16, complex)}, "features.0.1.bias is complex128"),
    (lambda t: {**t, "features.0.1.bias": np.zeros(16, np.int8)}, "no floating-point numbers"),
    (lambda t: {**t, "features.0.1.bias": np.array(["x"] * 16)}, "no floating-point numbers"),
    (lambda t: {**t, "features.0.1.bias": np.full(16, 1e300)}, "not finite: features.0.1.bias"),
  ],
)
def test_what_does_not_fit_is_named(small, change, words):
  with pytest.raises(WrongUse, match=words):
    mapping.to_ours(SMALL, change(dict(small)), "weights.npz is not torchvision's mobilenet_v3_small")


def test_counters_and_other_numbers_of_classes_are_fine(small):
  tensors = {**small, "features.0.1.num_batches_tracked": np.array(3)}
  tensors["classifier.3.weight"], tensors["classifier.3.bias"] = np.zeros((7, 1024), np.float16), np.zeros(7, np.float16)
  a, variables = mapping.to_ours(SMALL, tensors, "weights")
  assert a.num_classes == 7 and variables["params"]["logits"]["kernel"].dtype == np.float32


def test_another_network_is_recognised(small):
  with pytest.raises(WrongUse, match=r"it seems to be --from torchvision --model mobilenet_v3_small"):
    sources.variables("torchvision", "mobilenet_v3_large", small, "w.safetensors")
  with pytest.raises(WrongUse, match=r"it seems to be --from torchvision --model mobilenet_v3_small"):
    sources.variables("timm", "mobilenetv3_small_100", small, "w.safetensors")
  with pytest.raises(WrongUse, match="no Keras file"):
    sources.variables("keras", "MobileNetV2", small, "w.npz")


@pytest.mark.parametrize(
  ("source", "model", "words"),
  [
    ("tim", "x", "did you mean 'timm'"),
    ("timm", "mobilenetv3_large_10", "did you mean 'mobilenetv3_large_100'"),
    ("timm", "mobilenet_v2", "--from torchvision has it"),
    ("keras", "MobileNetV3Big", "did you mean 'MobileNetV3"),
  ],
)
def test_unknown_names_have_a_closest(source, model, words):
  with pytest.raises(WrongUse, match=words):
    sources.published(source, model)


def test_slim_takes_averages_and_leaves_the_optimizer():
  published = sources.published("slim", "mobilenet_v1_0.25_128")
  tensors = seeds.tensors(published)
  raw = {k: np.zeros_like(v) for k, v in tensors.items()}
  averages = {f"{k}/ExponentialMovingAverage": v for k, v in tensors.items()}
  slots = {"MobilenetV1/Conv2d_0/weights/RMSProp_1": np.zeros(3), "global_step": np.array(7)}
  _, _, found = sources.variables("slim", "mobilenet_v1_0.25_128", {**raw, **averages, **slots}, "slim.npz")
  expected = mapping.to_ours(published, tensors, "seeded")[1]
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def keras_layers(tensors):
  layers = {}
  for name, array in tensors.items():
    layers.setdefault(name.rpartition("/")[0], []).append(array)
  return list(layers.items())


def test_a_legacy_keras_file_is_read_by_its_order():
  published = sources.published("keras", "MobileNetV3Small")
  tensors = seeds.tensors(published)
  renamed = [(f"Old/{i}", arrays) for i, (_, arrays) in enumerate(keras_layers(tensors))]
  # some names stayed what they were
  for layers in (renamed, [*keras_layers(tensors)[:2], *renamed[2:]]):
    found = keras.tensors(KerasLayers(layers, ordered=True), published)
    assert list(found) == list(tensors) and all(found[k] is tensors[k] for k in tensors)
  # not where the order says nothing, nor where a layer is missing
  for layers, ordered in ((renamed, False), (renamed[1:], True)):
    with pytest.raises(WrongUse, match="tensors are missing"):
      sources.variables("keras", "MobileNetV3Small", KerasLayers(layers, ordered), "old.h5")


@pytest.mark.parametrize("model", ["MobileNet", "MobileNetV2", "MobileNetV3Small"])
def test_the_variables_are_those_of_the_module(model):
  from mnv3_jax.models.classifier import Classifier
  from mnv3_jax.models.initialize import shapes

  published = sources.published("keras", model)
  a, found = mapping.to_ours(published, seeds.tensors(published), "seeded")
  expected = shapes(Classifier(a))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
