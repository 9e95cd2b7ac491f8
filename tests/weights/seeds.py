"""What the parity tests run on: seeded weights with non-trivial statistics, a random image and two real photos; NumPy alone."""

import zlib

import matplotlib.cbook
import numpy as np
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.network import network
from mnv3_jax.weights import mapping, sources
from mnv3_jax.weights.content import KerasLayers

# a square, one that is wider than the paper's pool of 49x49 at output stride 16, and a small one of odd sides
_SIZES = ({}, {"resolution": 200, "resolution_width": 833}, {"resolution": 65, "resolution_width": 97})
# (source, model, fields): every segmenter whose logits of every pixel are compared with those of its source
SEGMENTERS = [("torchvision", "lraspp_mobilenet_v3_large", size) for size in _SIZES]
# likewise every detector, by a few anchors of each map
DETECTORS = [("torchvision", f"ssdlite320_mobilenet_v3_large{tail}", {}) for tail in ("", ".full_tail")]
# likewise every network; tags share a network
CASES = [
  *SEGMENTERS,
  *DETECTORS,
  *(("torchvision", m, {}) for m in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")),
  *(("timm", m, {}) for m in sources.SOURCES["timm"] if "." not in m),
  ("keras", "MobileNet", {}),
  ("keras", "MobileNet", {"width": 0.75}),
  # maps of odd sides, where Keras's padding of V1 is not TensorFlow's SAME
  ("keras", "MobileNet", {"resolution": 100}),
  ("keras", "MobileNet", {"resolution": 97, "resolution_width": 129}),
  ("keras", "MobileNetV2", {}),
  ("keras", "MobileNetV2", {"width": 0.75}),
  ("keras", "MobileNetV2", {"resolution": 97, "resolution_width": 129}),
  *(
    ("keras", f"MobileNetV3{size}", fields)
    for size in ("Large", "Small")
    for fields in ({}, {"width": 0.75}, {"minimalistic": True}, {"minimalistic": True, "width": 0.75})
  ),
  ("slim", "mobilenet_v1_1.0_224", {}),
  ("slim", "mobilenet_v1_0.5_224", {}),
  ("slim", "mobilenet_v2_1.4_224", {}),
  ("slim", "mobilenet_v2_1.0_224", {}),
  ("slim", "mobilenet_v2_0.35_224", {}),
  *(("slim", m, {}) for m in sources.SOURCES["slim"] if m.startswith("v3-")),
]

# of these also the features that the source computes without a classification head: timm's num_classes=0, which keeps the
# hidden layer, and Keras's include_top=False with average pooling, which does not
HEADLESS = [
  *(("timm", m, {}) for m in ("mobilenetv1_100", "mobilenetv2_050", "mobilenetv3_small_100", "mobilenetv4_conv_small")),
  *(("keras", m, {}) for m in ("MobileNet", "MobileNetV2", "MobileNetV3Small")),
]

# how torchvision's transforms show a photo, for tests/data/test_views.py
VIEWS = {
  "torchvision": Preprocessing(**sources.SOURCES["torchvision"]["mobilenet_v2"].preprocessing),
  "second": Preprocessing(**sources.SOURCES["torchvision"]["mobilenet_v2.IMAGENET1K_V2"].preprocessing),
  "timm": Preprocessing(**sources.SOURCES["timm"]["mobilenetv2_100"].preprocessing),
  "ra4": Preprocessing(**sources.SOURCES["timm"]["mobilenetv3_large_100.ra4_e3600_r224_in1k"].preprocessing),
  "tf": Preprocessing(**sources.SOURCES["timm"]["tf_mobilenetv3_small_100"].preprocessing),
}


def case_name(source, model, fields):
  """A case as one word, which file names can have."""
  return "-".join([source, model, *(f"{k}_{v}" for k, v in fields.items())])


def variables(published):
  """Seeded variables of a published network, such that its logits tell photos apart.

  Kernels keep the signal's size (a little less in deep networks, whose residuals add to it: rounding then stays at 1e-6); batch
  norm has scales, offsets, means and variances that all matter.

  Returns:
    (Architecture, {"params", "batch_stats"} of float32 arrays).
  """
  a = published.architecture(1001 if published.background else None)
  return a, variables_of(a)


def variables_of(a):
  """The same of any Architecture."""
  import jax

  gain = 1.5 if len(a.blocks) > 13 else 2.0

  def leaf(path, shape):
    names = [k.key for k in path]
    rng = np.random.default_rng(zlib.crc32("/".join(names).encode()))
    if names[-1] == "kernel":
      x = rng.normal(0, np.sqrt(gain / np.prod(shape.shape[:-1])), shape.shape)
    elif names[-1] in ("scale", "var"):
      x = rng.uniform(0.6, 1.4, shape.shape)
      # variances so small that the epsilon of a segmenter's head, another one than the backbone's, is seen in the logits
      x = x * (0.01 if names[-1] == "var" else 0.1) if names[1:3] == ["filter", "bn"] else x
    else:
      x = rng.normal(0, 0.2, shape.shape)
    return x.astype(np.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes(network(a)))


def tensors(published):
  """The same as the source names and lays them out: {name: array}."""
  a, ours = variables(published)
  return mapping.to_source(published, a, ours)


def as_file(source, tensors):
  """Tensors as formats.read gives them for a file of this source."""
  if source != "keras":
    return tensors
  layers = {}
  for name, array in tensors.items():
    layers.setdefault(name.rpartition("/")[0], []).append(array)
  return KerasLayers(list(layers.items()), ordered=False)


def images(published):
  """A random image, a photo of a person and an embedded photo, as the network wants them: (3, h, w, 3) float32."""
  h, w = sizes.sides(published.architecture().resolution)
  view = Preprocessing(**published.preprocessing)

  def shown(photo):
    if h == w:
      return view.central_crop(photo, h)
    return view.normalize(np.asarray(photo.convert("RGB").resize((w, h)), np.float32))

  noise = np.random.default_rng(7).integers(0, 256, (h, w, 3)).astype(np.float32)
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
    person = shown(Image.open(file))
  shoe = shown(Image.fromarray(fashion_mnist.load("test[:1]")[0][0]))
  return np.stack([view.normalize(noise), person, shoe]).astype(np.float32)


def grid(maps):
  """(b, h, w, ...) at 7x7 pixels, edges and corners among them: (b, 7, 7, ...)."""
  down, across = (np.linspace(0, n - 1, 7).round().astype(int) for n in maps.shape[1:3])
  return maps[:, down][:, :, across]


def kept(name, outputs):
  """What is kept of a source's outputs, by name: all of the logits (b, classes); of the codes and logits of anchors
  (b, anchors, numbers) a few anchors; of maps (b, h, w, classes) a grid, and the likeliest."""
  if outputs.ndim == 3:
    return {name: few_anchors(outputs)}
  return {name: outputs} if outputs.ndim == 2 else {name: grid(outputs), f"{name}-classes": likeliest(outputs)}


def few_anchors(outputs):
  """(b, anchors, numbers) at 24 anchors, the first and last ones and some of every map among them: (b, 24, numbers)."""
  # each map has a quarter of the anchors of the one before, so that equal steps of the logarithm from the end meet all of them
  n = outputs.shape[1]
  from_end = np.unique(np.geomspace(1, n, 24).round().astype(int))
  return outputs[:, n - from_end[::-1]].astype(np.float32)


def likeliest(logits):
  """The likeliest class of every third pixel across and down, uint8."""
  return logits[:, ::3, ::3].argmax(-1).astype(np.uint8)
