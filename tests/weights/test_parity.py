"""Imported networks against their sources, which ran the same weights on the same photos: tests/weights/sources/make.py."""

import dataclasses

import jax
import numpy as np
import pytest
import seeds
from conftest import ROOT

from mnv3_jax.architectures import edits
from mnv3_jax.architectures.heads import LRASPPHead
from mnv3_jax.models.network import network
from mnv3_jax.weights import sources

EXPECTED = ROOT / "tests" / "weights" / "expected"
# the rest runs with the long tests: a network takes seconds to compile
QUICK = (
  "torchvision-mobilenet_v3_small",
  "timm-mnasnet_small",
  "timm-mobilenetv4_conv_small",
  "keras-MobileNetV3Small-width_0.75",
  "slim-v3-small_224_1.0_float",
  "torchvision-lraspp_mobilenet_v3_large-resolution_65-resolution_width_97",
  "torchvision-ssdlite320_mobilenet_v3_large",
)
# of a difference that is none, as a share of the largest logit
SAME = 1e-4


def marked(cases):
  for case in cases:
    name = seeds.case_name(*case)
    yield pytest.param(case, id=name, marks=[] if name in QUICK else pytest.mark.slow)


def imported(case):
  """(Published, Architecture, variables) of a case's seeded weights."""
  source, model, fields = case
  file = seeds.as_file(source, seeds.tensors(sources.published(source, model, **fields)))
  return sources.variables(source, model, file, "seeded", **fields)


def expected_of(case):
  """What make.py has kept of a case: see seeds.kept."""
  name = seeds.case_name(*case)
  with np.load(EXPECTED / f"{case[0]}.npz") as kept:
    return {key.removeprefix(name): kept[key] for key in kept if key in (name, f"{name}-classes", f"{name}-features")}


def logits(architecture, variables, images):
  with jax.default_matmul_precision("highest"):
    return np.asarray(jax.jit(network(architecture).apply)(variables, images))


@pytest.mark.parametrize("case", list(marked(c for c in seeds.CASES if c not in (*seeds.SEGMENTERS, *seeds.DETECTORS))))
def test_logits_are_those_of_the_source(case):
  published, architecture, variables = imported(case)
  expected = expected_of(case)[""]
  found = logits(architecture, variables, seeds.images(published))
  # a background class is dropped
  expected = expected[:, 1:] if published.background else expected
  assert found.shape == expected.shape == (3, 1000)
  largest = np.abs(expected).max()
  assert np.abs(found - expected).max() <= SAME * largest
  # the photos are told apart by far more than that
  assert np.abs(expected - expected.mean(0)).max() > 0.01 * largest


# layers of the head that timm's num_classes=0 and Keras's include_top=False leave out
LEFT_OUT = {"timm": {"logits"}, "keras": {"hidden", "logits"}}


@pytest.mark.parametrize("case", list(marked(seeds.HEADLESS)))
def test_features_without_a_head_are_those_of_the_source(case):
  source, model, fields = case
  published = sources.published(source, model, **fields)
  a = published.architecture()
  names = published.names(a)
  left_out = tuple(f"{names[row].layer}{published.layout.joint}" for row in LEFT_OUT[source] & set(names))
  file = {name: x for name, x in seeds.tensors(published).items() if not name.startswith(left_out)}
  found, architecture, variables = sources.variables(source, model, seeds.as_file(source, file), "headless", **fields)
  assert found.architecture() == architecture and architecture.num_classes == 0
  assert not LEFT_OUT[source] & set(variables["params"])
  features = logits(architecture, variables, seeds.images(published))
  expected = expected_of(case)["-features"]
  assert features.shape == expected.shape and np.abs(features - expected).max() <= SAME * np.abs(expected).max()


@pytest.mark.parametrize("case", list(marked(seeds.SEGMENTERS)))
def test_logits_of_every_pixel_are_those_of_the_source(case):
  published, architecture, variables = imported(case)
  expected = expected_of(case)
  images = seeds.images(published)
  found = logits(architecture, variables, images)
  assert found.shape == (*images.shape[:3], 21)
  largest = np.abs(expected[""]).max()
  assert np.abs(seeds.grid(found) - expected[""]).max() <= SAME * largest
  # the likeliest class, but where two are as likely as each other
  second, first = np.sort(found[:, ::3, ::3], -1)[..., -2:].transpose(3, 0, 1, 2)
  differ = seeds.likeliest(found) != expected["-classes"]
  assert (first - second)[differ].max(initial=0) <= 2 * SAME * largest and differ.mean() < 1e-3
  # there is something to be told apart: images, pixels and classes
  assert np.abs(expected[""] - expected[""].mean(0)).max() > 0.1 * largest
  assert min(len(np.unique(classes)) for classes in expected["-classes"]) >= 5


@pytest.fixture(scope="module")
def detector():
  """(images, Architecture, variables, codes and logits of a few anchors by torchvision) of its detector; two images of it."""
  case = seeds.DETECTORS[0]
  published, architecture, variables = imported(case)
  return seeds.images(published)[1:], architecture, variables, expected_of(case)[""][1:]


def raw_outputs(detector, architecture):
  """Codes and logits of the anchors that are kept, (2, anchors, 4 + 91)."""
  images, _, variables, _ = detector
  return seeds.few_anchors(np.concatenate(logits_of_anchors(architecture, variables, images), -1))


def logits_of_anchors(architecture, variables, images):
  with jax.default_matmul_precision("highest"):
    return jax.jit(network(architecture).apply)(variables, images)


@pytest.mark.parametrize("case", list(marked(seeds.DETECTORS)))
def test_codes_and_logits_are_those_of_the_source(case):
  published, architecture, variables = imported(case)
  expected, images = expected_of(case)[""], seeds.images(published)
  out = logits_of_anchors(architecture, variables, images)
  assert out.codes.shape == (3, 3234, 4) and out.logits.shape == (3, 3234, 91)
  found = seeds.few_anchors(np.concatenate(out, -1))
  for part in (slice(0, 4), slice(4, None)):
    theirs, ours = expected[..., part], found[..., part]
    assert np.abs(ours - theirs).max() <= 1e-4
    # images, anchors and numbers of an anchor are told apart by far more than that
    assert all(np.abs(theirs - theirs.mean(axis, keepdims=True)).max() > 1 for axis in (0, 1, 2))


# what other code does, with the same names and shapes of tensors
DETECTOR_MISTAKES = {
  "TensorFlow's padding": lambda a: a.replace(padding="same"),
  "PyTorch's epsilon": lambda a: a.replace(bn_epsilon=1e-5),
}


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("mistake", DETECTOR_MISTAKES)
def test_a_mistake_in_a_detector_is_seen_in_its_outputs(mistake, detector):
  wrong = DETECTOR_MISTAKES[mistake](detector[1])
  expected = detector[-1]
  assert np.abs(raw_outputs(detector, detector[1]) - expected).max() <= 1e-4
  assert np.abs(raw_outputs(detector, wrong) - expected).max() > 1e-3


def segmenter_with(**changes):
  return lambda a: a.replace(head=dataclasses.replace(a.head, **changes))


def dilated_as_slim(a):
  """The block that gave up its stride at rate 1: two of the tail's blocks are dilated instead of three."""
  classifier = sources.published("torchvision", "mobilenet_v3_large").architecture()
  return a.replace(blocks=edits.with_output_stride(classifier, 16, "slim").blocks)


def undilated(a):
  return a.replace(blocks=tuple(dataclasses.replace(b, dilation=1) for b in a.blocks))


# what other code does, with the same names and shapes of tensors: no importer would notice
MISTAKES = {
  "two of three blocks dilated": dilated_as_slim,
  "no block dilated": undilated,
  "the paper's pool": segmenter_with(pool="paper"),
  "the release's pool": segmenter_with(pool="release"),
  "the release's gate": segmenter_with(gate="hard_sigmoid"),
  "the backbone's epsilon in the head": segmenter_with(bn_epsilon=1e-3),
  "the head's epsilon in the backbone": lambda a: a.replace(bn_epsilon=1e-5),
  "TensorFlow's padding": lambda a: a.replace(padding="same"),
}


@pytest.fixture(scope="module")
def wide():
  """(images, Architecture, variables, what is expected) of the case whose map is wider than any pool; one image of it."""
  case = seeds.SEGMENTERS[1]
  published, architecture, variables = imported(case)
  return seeds.images(published)[1:2], architecture, variables, expected_of(case)[""][1:2]


def difference(wide, architecture):
  """Of the logits of a network from what is expected, as a share of the largest."""
  images, _, variables, expected = wide
  found = seeds.grid(logits(architecture, variables, images))
  return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_segmenter_is_seen_in_its_logits(mistake, wide):
  wrong = MISTAKES[mistake](wide[1])
  assert wrong != wide[1] and difference(wide, wrong) > 10 * SAME


@pytest.mark.slow
@pytest.mark.parametrize("block", ["block_05", "block_06"])
def test_a_skip_from_another_block_of_as_many_channels_is_seen(block, wide, monkeypatch):
  assert wide[1].head.skip_map(wide[1]) == ("block_04", 8, 40)
  monkeypatch.setattr(LRASPPHead, "skip_map", lambda self, architecture: (block, 8, 40))
  assert difference(wide, wide[1]) > 10 * SAME


def test_everything_that_is_covered_has_an_expectation():
  # of frozen graphs there is a real one, test_tf_object_detection.py; this project's own names are Flax's
  for source in sources.SOURCES.keys() - {"tf_object_detection", "mnv3_jax"}:
    with np.load(EXPECTED / f"{source}.npz") as kept:
      names = {key.removesuffix("-classes").removesuffix("-features") for key in kept}
      assert names == {seeds.case_name(*case) for case in seeds.CASES if case[0] == source}
  assert {seeds.case_name(*case) for case in seeds.CASES} >= set(QUICK)
