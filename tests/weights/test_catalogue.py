"""Names of published weights: each is a network that is built here, in the shapes of its source, with published metrics."""

import functools
import hashlib
import re

import jax
import numpy as np
import pytest
import seeds
from conftest import ROOT, ended

import mnv3_jax
from mnv3_jax.architectures import cost
from mnv3_jax.errors import UsageError
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.network import network
from mnv3_jax.weights import mapping, sources
from mnv3_jax.weights.hub import catalogue
from mnv3_jax.weights.hub.checksums import Checksum
from mnv3_jax.weights.hub.named import HubFile, WebFile

# millions of parameters as published: torchvision's num_params, timm's results-imagenet.csv, Keras's tables
PARAMS = {
  "torchvision/MobileNet_V2_Weights.IMAGENET1K_V1": 3.504872,
  "torchvision/MobileNet_V2_Weights.IMAGENET1K_V2": 3.504872,
  "torchvision/MobileNet_V3_Large_Weights.IMAGENET1K_V1": 5.483032,
  "torchvision/MobileNet_V3_Large_Weights.IMAGENET1K_V2": 5.483032,
  "torchvision/MobileNet_V3_Small_Weights.IMAGENET1K_V1": 2.542856,
  "torchvision/LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1": 3.221538,
  "torchvision/SSDLite320_MobileNet_V3_Large_Weights.COCO_V1": 3.440060,
  "timm/mobilenetv1_100.ra4_e3600_r224_in1k": 4.23,
  "timm/mobilenetv2_050.lamb_in1k": 1.97,
  "timm/mobilenetv2_100.ra_in1k": 3.50,
  "timm/mobilenetv2_140.ra_in1k": 6.11,
  "timm/mobilenetv3_large_100.ra_in1k": 5.48,
  "timm/mobilenetv3_large_100.miil_in21k_ft_in1k": 5.48,
  "timm/mobilenetv3_small_050.lamb_in1k": 1.59,
  "timm/mobilenetv3_small_075.lamb_in1k": 2.04,
  "timm/mobilenetv3_small_100.lamb_in1k": 2.54,
  "timm/tf_mobilenetv3_large_075.in1k": 3.99,
  "timm/tf_mobilenetv3_large_100.in1k": 5.48,
  "timm/tf_mobilenetv3_large_minimal_100.in1k": 3.92,
  "timm/tf_mobilenetv3_small_075.in1k": 2.04,
  "timm/tf_mobilenetv3_small_100.in1k": 2.54,
  "timm/tf_mobilenetv3_small_minimal_100.in1k": 2.04,
  "timm/semnasnet_075.rmsp_in1k": 2.91,
  "timm/semnasnet_100.rmsp_in1k": 3.89,
  "timm/mnasnet_small.lamb_in1k": 2.03,
  "keras/MobileNet": 4.2,
  "keras/MobileNet_0.75_224": 2.6,
  "keras/MobileNet_0.5_224": 1.3,
  "keras/MobileNet_0.25_224": 0.5,
  "keras/MobileNetV3Large": 5.5,
  "keras/MobileNetV3Large_0.75": 4.0,
  "keras/MobileNetV3Large_minimalistic": 3.9,
  "keras/MobileNetV3Small_minimalistic": 2.0,
}


@functools.cache
def zeros(a):
  """Variables of a network without values: shapes do not depend on the input size."""
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes(network(a.replace(resolution=64))))


@pytest.mark.parametrize("name", catalogue.WEIGHTS)
def test_every_name_is_a_network_in_the_shapes_of_its_source(name):
  weights = catalogue.WEIGHTS[name]
  published, a = weights.published, weights.architecture
  tensors = seeds.as_file(weights.source, mapping.to_source(published, a, zeros(a)))
  _, found, variables = sources.variables(weights.source, weights.model, tensors, "zeros", **weights.fields)
  assert found == a and jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, zeros(a))
  assert weights.params == cost.params(a) == sum(x.size for x in jax.tree.leaves(variables["params"]))
  if name in PARAMS:
    digits = len(str(PARAMS[name]).partition(".")[2])
    assert round(weights.params / 1e6, digits) == pytest.approx(PARAMS[name], abs=1e-9)


def test_every_name_has_a_place_a_license_and_what_is_published():
  for name, weights in catalogue.WEIGHTS.items():
    assert name == weights.name == str(weights).split("  ")[0] and weights.license in ("Apache-2.0", "BSD-3-Clause")
    assert set(weights.metrics) <= {"top1", "top5", "miou", "pixel_accuracy", "ap"}
    assert bool(weights.metrics) == (weights.dataset is not None)
    assert all(20 < value < 97 for value in weights.metrics.values())
    if isinstance(weights.place, HubFile):
      assert weights.place == HubFile(name) and weights.url == f"https://huggingface.co/{name}"
    else:
      assert isinstance(weights.place, WebFile) and weights.url.startswith("https://") and weights.url == weights.place.url
  by_source = {source: [w for w in catalogue.WEIGHTS.values() if w.source == source] for source in catalogue.SOURCES}
  assert {source: len(found) for source, found in by_source.items()} == {"torchvision": 7, "timm": 32, "keras": 44}
  without = [w.name for w in catalogue.WEIGHTS.values() if not w.metrics]
  assert len(without) == 15 and all(
    re.match(r"keras/MobileNet_0\.|timm/mobilenetv3_large_100\.miil_in21k$|timm/mobilenetv4.*(e3600_r256|in12k)", n)
    for n in without
  )


def test_the_readme_counts_the_names():
  assert f"one of {len(catalogue.WEIGHTS)} [published weights]" in " ".join((ROOT / "README.md").read_text().split())


def test_checksums_are_those_of_file_names_and_tables():
  for weights in catalogue.WEIGHTS.values():
    if weights.source == "torchvision":
      digest = re.search(r"-([0-9a-f]{8})\.pth$", weights.url)[1]
      assert weights.place.checksum == Checksum("sha256", digest)
    elif weights.model.startswith("MobileNetV3"):
      assert re.fullmatch(r"[0-9a-f]{32}", weights.place.checksum.digest) and weights.place.checksum.algorithm == "md5"
  assert len({w.url for w in catalogue.WEIGHTS.values()}) == len(catalogue.WEIGHTS)


def test_checksums(tmp_path):
  (tmp_path / "file").write_bytes(b"abc")
  for algorithm in ("sha256", "md5"):
    digest = hashlib.new(algorithm, b"abc", usedforsecurity=False).hexdigest()
    assert Checksum(algorithm, digest).matches(tmp_path / "file") and Checksum(algorithm, digest[:8]).matches(tmp_path / "file")
    assert not Checksum(algorithm, digest[::-1]).matches(tmp_path / "file")


def test_other_names_of_the_same_weights():
  for alias, name in {
    "timm/mobilenetv3_large_100": "timm/mobilenetv3_large_100.ra_in1k",
    "torchvision/MobileNet_V3_Large_Weights.DEFAULT": "torchvision/MobileNet_V3_Large_Weights.IMAGENET1K_V2",
    "torchvision/mobilenet_v2.IMAGENET1K_V2": "torchvision/MobileNet_V2_Weights.IMAGENET1K_V2",
    "torchvision/SSDLite320_MobileNet_V3_Large_Weights.DEFAULT": "torchvision/SSDLite320_MobileNet_V3_Large_Weights.COCO_V1",
    "keras/MobileNetV2_1.0_224": "keras/MobileNetV2",
    "keras/MobileNetV3Small_1.0": "keras/MobileNetV3Small",
  }.items():
    assert catalogue.find(alias).name == name
  assert set(catalogue.ALIASES.values()) <= set(catalogue.WEIGHTS) and not set(catalogue.ALIASES) & set(catalogue.WEIGHTS)


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("timm/mobilenetv3_large_10", "did you mean 'timm/mobilenetv3_large_100'"),
    ("keras/mobilenetv3large", "did you mean 'keras/MobileNetV3Large'"),
    (
      "torchvision/MobileNet_V3_Large_Weights.IMAGENET1K_V3",
      "did you mean 'torchvision/MobileNet_V3_Large_Weights.IMAGENET1K_V",
    ),
    ("timm/mobilenetv2_075.untrained", "which timm does not publish; did you mean"),
    (
      "resnet50",
      r"expected SOURCE/NAME, as list_weights\(\) has them \(of torchvision, timm, keras\), or hf://USER/REPOSITORY",
    ),
  ],
)
def test_unknown_names(name, words):
  with pytest.raises(UsageError, match=f"no weights '{name}'.*{words}"):
    catalogue.find(name)


def test_what_is_a_name_and_what_a_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert all(map(catalogue.is_name, ("timm/net", "torchvision/net", "keras/net", "hf://a/b")))
  assert not any(map(catalogue.is_name, ("runs/timm/net", "./timm/net", "/timm/net", "net", tmp_path, None)))
  (tmp_path / "timm" / "net").mkdir(parents=True)
  assert not catalogue.is_name("timm/net")


def test_the_list():
  small = mnv3_jax.list_weights("*v3*SMALL*")
  assert len(small) == 10 and {w.architecture.name for w in small} == {"mobilenetv3_small"}
  assert mnv3_jax.list_weights() == list(catalogue.WEIGHTS.values()) and mnv3_jax.list_weights("*v5*") == []
  status, out, err = ended("import", "--list", "*v3*small*")
  assert (status, err) == (0, "")
  head, *lines = out.splitlines()
  assert head.split()[:3] == ["name", "network", "parameters"] and [line.split()[0] for line in lines] == [
    w.name for w in small
  ]
  (line,) = [line for line in lines if "torchvision/" in line]
  assert re.search(r" mobilenetv3_small +2,542,856 +224 px +top1 67.668, top5 87.402 +BSD-3-Clause$", line)
  assert ended("import", "--list", "*v5*") == (
    2,
    "",
    "mnv3: no weights match --list='*v5*'; mnv3 import --list '*' lists all of them\n",
  )
