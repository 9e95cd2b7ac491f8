"""Exports to StableHLO, which needs JAX alone, and to TensorFlow's SavedModel.

Both take any number of images and contain their weights. ONNX is not offered; the documentation has the reason.
"""

import errno
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.pipelines.tf_stream import tensorflow
from mnv3_jax.errors import NO_SPACE, FatalError, UsageError
from mnv3_jax.export.tflite import PLAIN
from mnv3_jax.models import inference
from mnv3_jax.models.folding import fold_batch_norm
from mnv3_jax.models.network import network
from mnv3_jax.runs.directory import write_atomically
from mnv3_jax.tasks.agreement import MAX_RELATIVE_DIFFERENCE
from mnv3_jax.types import PathLike, Variables

# normalized images
ImageArray: TypeAlias = Float[np.ndarray, "n h w c"]

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(architecture: Architecture, variables: Variables, path: PathLike, images: ImageArray) -> float:
  """Writes a StableHLO file, which `jax.export.deserialize(bytes).call(images)` runs with JAX and without this package.

  Args:
    architecture, variables: the network.
    path: of the file.
    images: (n, height, width, channels) float32 to compare on.

  Returns:
    The largest difference of an output from Flax's.

  Raises:
    UsageError: if `path` is a directory.
    FatalError: if the outputs differ; nothing is written then.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    raise UsageError(f"invalid file={str(path)!r}; expected the name of a file, it is a directory")
  model, folded = fold_batch_norm(network(architecture, PLAIN), variables)
  (batch,) = jax.export.symbolic_shape("batch")
  shape = jax.ShapeDtypeStruct((batch, *architecture.image_shape), jnp.float32)
  exported = jax.export.export(jax.jit(lambda x: _by_name(model.apply(folded, x))), platforms=PLATFORMS)(shape)
  content = bytes(exported.serialize())
  difference = _check_difference(architecture, variables, images, jax.export.deserialize(bytearray(content)).call, path)
  write_atomically(path, content)
  return difference


def write_saved_model(architecture: Architecture, variables: Variables, path: PathLike, images: ImageArray) -> float:
  """Writes a SavedModel: `tf.saved_model.load(path).signatures["serving_default"](input=images)` runs it.

  Args, Returns: as write_stablehlo, but `path` is of a directory that does not exist yet, or is empty.

  Raises:
    UsageError: where TensorFlow is not installed, or something is at `path`.
    FatalError: if the outputs differ; nothing is written then.
  """
  path = pathlib.Path(path)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise UsageError(f"invalid file={str(path)!r}; expected a new directory for a SavedModel, it exists")
  try:
    tf = tensorflow()
    from jax.experimental import jax2tf
  except ImportError as error:
    raise UsageError(
      f"format='saved_model' needs TensorFlow, which the extra tfds installs: pip install '.[tfds]' ({error})"
    ) from None
  model, folded = fold_batch_norm(network(architecture, PLAIN), variables)
  layout = architecture.image_shape
  shape = tf.TensorSpec((None, *layout), tf.float32, name="input")
  any_number = f"(batch, {', '.join(map(str, layout))})"
  traced = jax2tf.convert(lambda x: _by_name(model.apply(folded, x)), polymorphic_shapes=[any_number])

  def serve(x: Any) -> dict[str, Any]:
    found = traced(x)
    return found if isinstance(found, dict) else {"output": found}

  module: Any = tf.Module()
  module.serve = tf.function(serve, input_signature=[shape], autograph=False)
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
  try:
    tf.saved_model.save(module, draft, signatures={"serving_default": module.serve})
    run = tf.saved_model.load(draft).signatures["serving_default"]

    def outputs(x: ImageArray) -> Any:
      found = {name: values.numpy() for name, values in run(input=tf.constant(x)).items()}
      return found.get("output", found)

    difference = _check_difference(architecture, variables, images, outputs, path)
    pathlib.Path(draft).chmod(0o755)
    pathlib.Path(draft).replace(path)
  except BaseException as error:
    shutil.rmtree(draft, ignore_errors=True)
    if isinstance(error, tf.errors.ResourceExhaustedError) and NO_SPACE in str(error):
      raise OSError(errno.ENOSPC, "no space left", str(path)) from error
    raise
  return difference


def _by_name(outputs: Any) -> Any:
  """Returns several outputs as a dictionary by name, which files keep; one array as it is."""
  return outputs._asdict() if hasattr(outputs, "_asdict") else outputs


def _check_difference(
  architecture: Architecture,
  variables: Variables,
  images: ImageArray,
  run: Callable[[ImageArray], Any],
  path: pathlib.Path,
) -> float:
  """Returns the largest difference of an output from Flax's; raises FatalError where it is too large."""
  expected = inference.outputs(network(architecture), variables, images, inference.images_per_step(architecture))
  pairs = [
    (np.asarray(one), np.asarray(other))
    for one, other in zip(jax.tree.leaves(_by_name(expected)), jax.tree.leaves(run(images)), strict=True)
  ]
  difference = max(float(np.abs(one - other).max()) for one, other in pairs)
  largest = max(1.0, *(float(np.abs(one).max()) for one, _ in pairs))
  if not difference <= MAX_RELATIVE_DIFFERENCE * largest:
    raise FatalError(
      f"{path} is not written: its outputs differ from Flax's by {difference:.2g}, more than "
      f"{MAX_RELATIVE_DIFFERENCE:g} of the largest"
    )
  return difference
