"""The tables of names: complete, strict, and the same both ways."""

import jax
import numpy as np
import pytest
import seeds

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.heads import LRASPPHead, SSDLiteHead
from mnv3_jax.data.sources import coco_classes
from mnv3_jax.errors import UsageError
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.network import network
from mnv3_jax.weights import keras, mapping, sources
from mnv3_jax.weights.formats import KerasLayers

EVERY = [(source, model) for source, models in sources.SOURCES.items() for model in models]
SMALL = sources.published("torchvision", "mobilenet_v3_small")
LRASPP = sources.published("torchvision", "lraspp_mobilenet_v3_large")
SSDLITE = sources.published("torchvision", "ssdlite320_mobilenet_v3_large")
FULL = sources.published("torchvision", "ssdlite320_mobilenet_v3_large.full_tail")


@pytest.fixture(scope="module")
def small():
  """torchvision's names and seeded arrays of V3-Small."""
  return seeds.tensors(SMALL)


@pytest.mark.parametrize(("source", "model"), EVERY)
def test_every_network_has_a_place_for_every_layer(source, model):
  published = sources.published(source, model)
  a = published.architecture()
  names = published.names(a)
  assert {layer.name for layer in cost.layers(a)} <= set(names)
  assert set(published.preprocessing) == {"mean", "std", "crop", "interpolation"}


@pytest.mark.slow
@pytest.mark.parametrize(
  "case",
  [
    ("torchvision", "mobilenet_v2", {}),
    ("torchvision", "lraspp_mobilenet_v3_large", {}),
    ("torchvision", "ssdlite320_mobilenet_v3_large", {}),
    ("timm", "semnasnet_100", {}),
    ("slim", "mobilenet_v1_0.25_128", {}),
  ],
)
def test_there_and_back(case):
  source, model, fields = case
  published = sources.published(source, model, **fields)
  a, ours = seeds.variables(published)
  theirs = mapping.to_source(published, a, ours)
  assert len(theirs) == len(jax.tree.leaves(ours))
  again, back = mapping.from_source(published, theirs, "seeded")
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
  with pytest.raises(UsageError, match=words):
    mapping.from_source(SMALL, change(dict(small)), "weights.npz is not torchvision's mobilenet_v3_small")


def test_counters_and_other_numbers_of_classes_are_fine(small):
  tensors = {**small, "features.0.1.num_batches_tracked": np.array(3)}
  tensors["classifier.3.weight"], tensors["classifier.3.bias"] = np.zeros((7, 1024), np.float16), np.zeros(7, np.float16)
  a, variables = mapping.from_source(SMALL, tensors, "weights")
  assert a.num_classes == 7 and variables["params"]["logits"]["kernel"].dtype == np.float32


def test_another_network_is_recognised(small):
  with pytest.raises(UsageError, match=r"it seems to be source='torchvision', model='mobilenet_v3_small'"):
    sources.variables("torchvision", "mobilenet_v3_large", small, "w.safetensors")
  with pytest.raises(UsageError, match=r"it seems to be source='torchvision', model='mobilenet_v3_small'"):
    sources.variables("timm", "mobilenetv3_small_100", small, "w.safetensors")
  with pytest.raises(UsageError, match="expected a Keras file"):
    sources.variables("keras", "MobileNetV2", small, "w.npz")


@pytest.mark.parametrize(
  ("source", "model", "words"),
  [
    ("tim", "x", "did you mean 'timm'"),
    ("timm", "mobilenetv3_large_10", "did you mean 'mobilenetv3_large_100'"),
    ("timm", "mobilenet_v2", "source='torchvision' has it"),
    ("keras", "MobileNetV3Big", "did you mean 'MobileNetV3"),
  ],
)
def test_unknown_names_have_a_closest(source, model, words):
  with pytest.raises(UsageError, match=words):
    sources.published(source, model)


def test_slim_takes_averages_and_leaves_the_optimizer():
  published = sources.published("slim", "mobilenet_v1_0.25_128")
  tensors = seeds.tensors(published)
  raw = {k: np.zeros_like(v) for k, v in tensors.items()}
  averages = {f"{k}/ExponentialMovingAverage": v for k, v in tensors.items()}
  slots = {"MobilenetV1/Conv2d_0/weights/RMSProp_1": np.zeros(3), "global_step": np.array(7)}
  _, _, found = sources.variables("slim", "mobilenet_v1_0.25_128", {**raw, **averages, **slots}, "slim.npz")
  expected = mapping.from_source(published, tensors, "seeded")[1]
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
    with pytest.raises(UsageError, match="tensors are missing"):
      sources.variables("keras", "MobileNetV3Small", KerasLayers(layers, ordered), "old.h5")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("source", "model"),
  [
    ("keras", "MobileNet"),
    ("keras", "MobileNetV2"),
    ("keras", "MobileNetV3Small"),
    ("torchvision", "lraspp_mobilenet_v3_large"),
    ("torchvision", "ssdlite320_mobilenet_v3_large.full_tail"),
  ],
)
def test_the_variables_are_those_of_the_module(source, model):
  published = sources.published(source, model)
  a, found = mapping.from_source(published, seeds.tensors(published), "seeded")
  expected = shapes(network(a))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


@pytest.fixture(scope="module")
def lraspp():
  """torchvision's names and seeded arrays of its segmenter."""
  return seeds.tensors(LRASPP)


def test_torchvisions_segmenter_is_a_network_of_named_variants(lraspp):
  a = LRASPP.architecture()
  # torchvision's own figures: num_params, and _ops (in thousands of millions) at 520x520
  assert cost.params(a) == 3_221_538 and round(cost.madds(a) / 1e9, 3) == 2.086
  assert cost.params(a) == sum(t.size for name, t in lraspp.items() if "running_" not in name)
  assert a.head == LRASPPHead(filters=128, pool="global", gate="sigmoid", gate_bias=False, skip="block", bn_epsilon=1e-5)
  assert (a.padding, a.bn_epsilon, a.num_classes, a.resolution) == ("symmetric", 1e-3, 21, 520)
  # the output of the fourth block, the first at stride 8; the last three blocks are dilated, the one that lost its stride too
  assert a.head.skip_map(a) == ("block_04", 8, 40)
  assert [(b.stride, b.dilation) for b in a.blocks[-4:]] == [(1, 1), (1, 2), (1, 2), (1, 2)]
  assert lraspp["classifier.low_classifier.weight"].shape == (21, 40, 1, 1)
  assert lraspp["classifier.cbr.0.weight"].shape == (128, 960, 1, 1) and "classifier.scale.1.bias" not in lraspp
  assert len(LRASPP.classes) == 21 and LRASPP.classes[0] == "background" and LRASPP.classes[15] == "person"


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.25])
def test_a_segmenter_has_the_channels_of_the_classifier_at_every_width(width):
  dense, plain = (
    sources.published("torchvision", model, width=width).architecture()
    for model in ("lraspp_mobilenet_v3_large", "mobilenet_v3_large")
  )
  assert [(b.expand, b.out) for b in dense.blocks] == [(b.expand, b.out) for b in plain.blocks]
  assert all(n % 8 == 0 for b in dense.blocks for n in (b.expand, b.out)) and dense.head.filters == 128


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda t: {**t, "classifier.scale.1.bias": np.zeros(128)}, r"1 are left over \(classifier.scale.1.bias\)"),
    (lambda t: without(t, "classifier.cbr.1.running_mean"), r"1 tensors are missing \(classifier.cbr.1.running_mean\)"),
    (lambda t: {**t, "classifier.low_classifier.bias": np.zeros(20)}, r"low_classifier.bias is \(20,\) instead of \(21,\)"),
    # the depthwise map of the sixth block, as the paper's own skip has it
    (
      lambda t: {**t, "classifier.low_classifier.weight": np.zeros((21, 120, 1, 1))},
      r"low_classifier.weight is \(21, 120, 1, 1\) instead of \(21, 40, 1, 1\)",
    ),
    (lambda t: {f"module.{k}": v for k, v in t.items()}, "and 2.. more"),
  ],
)
def test_what_does_not_fit_a_segmenter_is_named(lraspp, change, words):
  with pytest.raises(UsageError, match=words):
    mapping.from_source(LRASPP, change(dict(lraspp)), "weights.npz is not torchvision's lraspp_mobilenet_v3_large")


def test_a_segmenter_of_other_classes_is_fine_and_recognised(lraspp):
  tensors = dict(lraspp)
  for part in ("low", "high"):
    for leaf in ("weight", "bias"):
      name = f"classifier.{part}_classifier.{leaf}"
      tensors[name] = tensors[name][:7]
  a, variables = mapping.from_source(LRASPP, tensors, "weights")
  assert a.num_classes == 7 and variables["params"]["skip_logits"]["kernel"].shape == (1, 1, 40, 7)
  with pytest.raises(UsageError, match="it seems to be source='torchvision', model='lraspp_mobilenet_v3_large'"):
    sources.variables("torchvision", "mobilenet_v3_large", tensors, "lraspp.pth")


@pytest.fixture(scope="module")
def ssdlite():
  """torchvision's names and seeded arrays of its detector with the reduced tail."""
  return seeds.tensors(SSDLITE)


def test_torchvisions_detector_is_a_network_of_named_variants(ssdlite):
  a = SSDLITE.architecture()
  assert cost.params(a) == 3_440_060 == sum(t.size for name, t in ssdlite.items() if "running_" not in name)
  assert cost.params(FULL.architecture()) == 5_198_540
  assert a.head == SSDLiteHead(convention="torchvision") and (a.padding, a.bn_epsilon) == ("symmetric", 1e-3)
  # PyTorch's momentum is the share of the new value
  assert (a.bn_momentum, a.num_classes, a.resolution) == (0.97, 90, 320)
  assert SSDLITE.preprocessing["mean"] == SSDLITE.preprocessing["std"] == (0.5, 0.5, 0.5)
  assert len(SSDLITE.classes) == 90 and SSDLITE.classes[0] == "person" and SSDLITE.classes[89] == "toothbrush"
  assert [SSDLITE.classes[i - 1] for i in coco_classes.UNUSED][:3] == ["street sign", "hat", "shoe"]
  # a slice of a Sequential keeps the indices of its modules: there is no 1.0.0
  names = set(ssdlite)
  assert {"backbone.features.0.13.0.weight", "backbone.features.1.0.1.0.weight", "backbone.features.1.3.0.weight"} <= names
  assert {"backbone.features.1.0.2.fc1.bias", "backbone.features.1.0.3.1.running_var"} <= names
  assert not any(name.startswith(("backbone.features.1.0.0.", "backbone.features.0.13.block")) for name in names)
  assert ssdlite["head.regression_head.module_list.0.1.weight"].shape == (24, 672, 1, 1)
  assert ssdlite["head.classification_head.module_list.5.1.bias"].shape == (6 * 91,)


def test_a_detector_of_other_classes_is_fine_and_both_tails_are_recognised(ssdlite):
  tensors = dict(ssdlite)
  for i in range(6):
    for leaf in ("weight", "bias"):
      name = f"head.classification_head.module_list.{i}.1.{leaf}"
      tensors[name] = tensors[name][: 6 * 8]
  a, variables = mapping.from_source(SSDLITE, tensors, "weights")
  assert a.num_classes == 7 and variables["params"]["classes_5"]["logits"]["bias"].shape == (48,)
  with pytest.raises(UsageError, match="it seems to be source='torchvision', model='ssdlite320_mobilenet_v3_large'"):
    sources.variables("torchvision", "ssdlite320_mobilenet_v3_large.full_tail", tensors, "a.pth")
  with pytest.raises(UsageError, match=r"it seems to be source='torchvision', model='ssdlite320_mobilenet_v3_large.full_tail'"):
    sources.variables("torchvision", "ssdlite320_mobilenet_v3_large", seeds.tensors(FULL), "a.pth")


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda t: without(t, "backbone.features.1.0.1.0.weight"), r"1 tensors are missing \(backbone.features.1.0.1.0.weight\)"),
    (lambda t: {**t, "backbone.features.1.0.0.0.weight": np.zeros(3)}, r"left over \(backbone.features.1.0.0.0.weight\)"),
    (
      lambda t: {**t, "head.regression_head.module_list.0.1.bias": np.zeros(12)},
      r"head.regression_head.module_list.0.1.bias is \(12,\) instead of \(24,\)",
    ),
    # no whole number of classes: those of the published weights are expected
    (
      lambda t: {**t, "head.classification_head.module_list.0.1.bias": np.zeros(547)},
      r"head.classification_head.module_list.0.1.bias is \(547,\) instead of \(546,\)",
    ),
    (
      lambda t: {**t, "head.classification_head.module_list.0.1.bias": np.zeros(6)},
      r"head.classification_head.module_list.0.1.bias is \(6,\) instead of \(546,\)",
    ),
  ],
)
def test_what_does_not_fit_a_detector_is_named(ssdlite, change, words):
  with pytest.raises(UsageError, match=words):
    mapping.from_source(SSDLITE, change(dict(ssdlite)), "weights.npz is not torchvision's ssdlite320_mobilenet_v3_large")
