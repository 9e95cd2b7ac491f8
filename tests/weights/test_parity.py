"""Imported networks against their sources, which ran the same weights on the same photos: tests/weights/sources/make.py."""

import jax
import numpy as np
import pytest
import seeds
from conftest import ROOT

from mnv3_jax.models.classifier import Classifier
from mnv3_jax.weights import sources

EXPECTED = ROOT / "tests" / "weights" / "expected"
# the rest runs with the long tests: a network takes seconds to compile
QUICK = (
  "torchvision-mobilenet_v3_small",
  "timm-mnasnet_small",
  "keras-MobileNetV3Small-width_0.75",
  "slim-v3-small_224_1.0_float",
)


def marked():
  for case in seeds.CASES:
    name = seeds.case_name(*case)
    yield pytest.param(case, id=name, marks=[] if name in QUICK else pytest.mark.slow)


def as_file(source, tensors):
  """Tensors as formats.read gives them for a file of this source."""
  if source != "keras":
    return tensors
  from mnv3_jax.weights.formats import KerasLayers

  layers = {}
  for name, array in tensors.items():
    layers.setdefault(name.rpartition("/")[0], []).append(array)
  return KerasLayers(list(layers.items()), ordered=False)


@pytest.mark.parametrize("case", list(marked()))
def test_logits_are_those_of_the_source(case):
  source, model, fields = case
  file = as_file(source, seeds.tensors(sources.published(source, model, **fields)))
  published, architecture, variables = sources.variables(source, model, file, "seeded", **fields)
  with np.load(EXPECTED / f"{source}.npz") as kept:
    expected = kept[seeds.case_name(*case)]
  images = seeds.images(published)
  with jax.default_matmul_precision("highest"):
    found = np.asarray(jax.jit(Classifier(architecture).apply)(variables, images))
  # a background class is dropped
  expected = expected[:, 1:] if published.background else expected
  assert found.shape == expected.shape == (3, 1000)
  largest = np.abs(expected).max()
  assert np.abs(found - expected).max() <= 1e-4 * largest
  # the photos are told apart by far more than that
  assert np.abs(expected - expected.mean(0)).max() > 0.01 * largest


def test_everything_that_is_covered_has_an_expectation():
  for source in sources.SOURCES:
    with np.load(EXPECTED / f"{source}.npz") as kept:
      assert set(kept) == {seeds.case_name(*case) for case in seeds.CASES if case[0] == source}
  assert {seeds.case_name(*case) for case in seeds.CASES} >= set(QUICK)
