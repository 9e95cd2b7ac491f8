"""A network and its variables to a float32 .tflite file that is known to agree with Flax before it is written."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from mnv3_jax.errors import StoppedForGood, WrongUse
from mnv3_jax.mobile.converter import convert
from mnv3_jax.mobile.runtime import Network
from mnv3_jax.models import inference
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute

# largest difference of a logit, relative to the largest logit where that is above 1
BOUND = 1e-4

# what a converter understands: ordinary convolutions in float32
PLAIN = Compute(dtype="float32", formulation="plain")


@dataclasses.dataclass(frozen=True)
class Exported:
  """What was written.

  Attributes:
    path, size: the file and its bytes.
    ops: number of operators by name.
    partitions: parts of the graph that XNNPACK runs.
    images: how many were run through both.
    max_difference: the largest difference of a logit to Flax.
    largest_logit: for scale.
    top1_agreement: share of images with the same first class.
  """

  path: str
  size: int
  ops: dict
  partitions: int
  images: int
  max_difference: float
  largest_logit: float
  top1_agreement: float


def export(architecture, variables, path, images):
  """Converts, compares with Flax, and only then writes.

  The file takes float32 images (1, resolution, resolution, channels) in [-1, 1] and gives logits (1, classes).

  Args:
    architecture: the network.
    variables: {"params", "batch_stats"}.
    path: of the file; its folder is made.
    images: (n, resolution, resolution, channels) float32 to compare on.

  Returns:
    An Exported.

  Raises:
    WrongUse: if `path` is a folder.
    StoppedForGood: if the file's logits are further from Flax's than BOUND; nothing is written then.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise WrongUse(f"{str(path)!r} is a folder; --out takes the name of a file")
  plain = Classifier(architecture, PLAIN)
  shape = (1, architecture.resolution, architecture.resolution, architecture.in_channels)
  content = convert(lambda x: plain.apply(variables, x), jax.ShapeDtypeStruct(shape, jnp.float32))
  network = Network(content)
  expected = inference.logits(Classifier(architecture), variables, images)
  found = network.run_all(images)
  difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
  if not difference <= BOUND * max(largest, 1):
    raise StoppedForGood(
      f"{path} is not written: its logits differ from Flax's by {difference:.2g}, more than {BOUND:g} "
      f"of the largest logit, {largest:.2g}"
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f".{path.name}.draft")
  draft.write_bytes(content)
  draft.replace(path)
  return Exported(
    path=str(path),
    size=len(content),
    ops=network.ops,
    partitions=network.partitions,
    images=len(images),
    max_difference=difference,
    largest_logit=largest,
    top1_agreement=float((found.argmax(1) == expected.argmax(1)).mean()),
  )


def seeded(architecture, seed=0):
  """Variables of an untrained network that can be looked at: seeded kernels, and batch-norm statistics of random images.

  With statistics of 0 and 1 the signal of an untrained network dies out before the logits, and nothing could be compared.

  They are those of 32 images: on a 1x1 map, statistics of a few images amplify rounding more than a trained network does.

  Returns:
    (variables, four of the images (4, resolution, resolution, channels) float32).
  """
  # momentum 0: the moving statistics are those of the one batch
  model = Classifier(architecture.replace(bn_momentum=0.0))
  variables = initialize(model, seed)
  rng = np.random.default_rng(seed)
  shape = (32, architecture.resolution, architecture.resolution, architecture.in_channels)
  x = rng.uniform(-1, 1, shape).astype(np.float32)

  @jax.jit
  def statistics(variables, x):
    return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)})[1]

  return {**variables, **jax.device_get(statistics(variables, x))}, x[:4]
