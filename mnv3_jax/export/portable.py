"""Ways out of this package that are no .tflite file: StableHLO, which needs JAX alone, and TensorFlow's SavedModel.

Both take any number of images, and hold their weights. ONNX is not here: see README.
"""

import pathlib
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export.tflite import BOUND, PLAIN
from mnv3_jax.models import inference
from mnv3_jax.models.network import network
from mnv3_jax.runs.directory import write_atomically

PLATFORMS = ("cpu", "cuda", "tpu")


def stablehlo(architecture, variables, path, images):
  """Writes what `jax.export.deserialize(bytes).call(images)` runs, with JAX and without this package.

  Args:
    architecture, variables: the network.
    path: of the file.
    images: (n, height, width, channels) float32 to compare on.

  Returns:
    The largest difference of a logit to Flax's.

  Raises:
    UsageError: if `path` is a folder.
    FatalError: if the logits differ; nothing is written then.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise UsageError(f"{str(path)!r} is a folder; --out takes the name of a file")
  model = network(architecture, PLAIN)
  (batch,) = jax.export.symbolic_shape("batch")
  shape = jax.ShapeDtypeStruct((batch, *architecture.image_shape), jnp.float32)
  exported = jax.export.export(jax.jit(lambda x: model.apply(variables, x)), platforms=PLATFORMS)(shape)
  content = bytes(exported.serialize())
  difference = _difference(architecture, variables, images, jax.export.deserialize(bytearray(content)).call, path)
  write_atomically(path, content)
  return difference


def saved_model(architecture, variables, path, images):
  """Writes a directory that `tf.saved_model.load(path).signatures["serving_default"](input=images)` reads.

  Args, Returns: as stablehlo, but `path` is of a directory that is not there yet, or empty.

  Raises:
    UsageError: where TensorFlow is not installed, or something is at `path`.
    FatalError: if the logits differ; nothing is written then.
  """
  path = pathlib.Path(path)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise UsageError(f"{str(path)!r} is there already; --out names a new directory for a SavedModel")
  try:
    import tensorflow as tf
    from jax.experimental import jax2tf
  except ImportError as error:
    raise UsageError(
      f"--format saved_model needs TensorFlow, which the extra tfds brings: pip install '.[tfds]' ({error})"
    ) from None
  model = network(architecture, PLAIN)
  layout = architecture.image_shape
  shape = tf.TensorSpec((None, *layout), tf.float32, name="input")
  any_number = f"(batch, {', '.join(map(str, layout))})"
  traced = jax2tf.convert(lambda x: model.apply(variables, x), polymorphic_shapes=[any_number])
  module = tf.Module()
  module.serve = tf.function(lambda x: {"output": traced(x)}, input_signature=[shape], autograph=False)
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
  try:
    tf.saved_model.save(module, draft, signatures={"serving_default": module.serve})
    run = tf.saved_model.load(draft).signatures["serving_default"]
    difference = _difference(architecture, variables, images, lambda x: run(input=tf.constant(x))["output"].numpy(), path)
    pathlib.Path(draft).chmod(0o755)
    pathlib.Path(draft).replace(path)
  except BaseException:
    shutil.rmtree(draft, ignore_errors=True)
    raise
  return difference


def _difference(architecture, variables, images, run, path):
  expected = inference.logits(network(architecture), variables, images, inference.at_a_time(architecture))
  difference, largest = float(np.abs(np.asarray(run(images)) - expected).max()), max(float(np.abs(expected).max()), 1)
  if not difference <= BOUND * largest:
    raise FatalError(f"{path} is not written: its logits differ from Flax's by {difference:.2g}, more than {BOUND:g} of them")
  return difference
