"""Import of published weights: a run directory from a weight file of torchvision, timm, Keras applications or TF-slim."""

import hashlib
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config import base
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.run import Run
from mnv3_jax.tasks.job import task_class
from mnv3_jax.training import trained
from mnv3_jax.types import PathLike
from mnv3_jax.weights import formats, sources
from mnv3_jax.weights.mapping import Published


def import_weights(
  source: str,
  model: str,
  file: PathLike,
  out: PathLike,
  *,
  classes: PathLike | Sequence[str] | None = None,
  width: float | None = None,
  minimalistic: bool | None = None,
  resolution: int | None = None,
  resolution_width: int | None = None,
) -> Run:
  """Imports published weights as a run directory, which evaluate, predict, export and train(init=...) take as any other.

  Args:
    source: "torchvision", "timm", "keras" or "slim".
    model: name of the network there, such as "mobilenetv3_large_100"; weights/sources.SOURCES lists them.
    file: the weights: .safetensors, .npz, .h5 and .keras are read directly, .pth with PyTorch's safe loader; pickles are never
      loaded. Averaged weights are preferred where a training checkpoint has them.
    out: directory to create.
    classes: class names, or a text file with one per line, where they are not the source's own.
    width, minimalistic, resolution, resolution_width: fields of config.model in which the file differs from what is published
      (alpha of Keras applications is `width`).

  Returns:
    The Run: run.result has the number of parameters and the digest of the file.

  Raises:
    UsageError: for an unknown source or network, with the nearest choice; if `out` exists; or if the file has other tensors,
      naming the first and the network that it seems to be.
  """
  options = {"width": width, "minimalistic": minimalistic, "resolution": resolution, "resolution_width": resolution_width}
  given = {name: value for name, value in options.items() if value is not None}
  # an invalid request is refused before the file is read
  sources.published(source, model, **given).architecture()
  if pathlib.Path(out).exists():
    raise UsageError(f"invalid out={str(out)!r}, which exists already; expected a new directory")
  names = _class_names(classes)
  content = formats.read(str(file))
  published, architecture, variables = sources.variables(source, model, content, str(file), **given)
  config = _config(published, architecture, names)
  result = {
    "model": architecture.name,
    "params": cost.params(architecture),
    "madds": cost.madds(architecture),
    "steps": 0,
    "metrics": {},
    "imported": {
      "from": source,
      "model": model,
      "file": pathlib.Path(file).name,
      "sha256": hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest(),
    },
  }
  trained.save(out, config, variables, result)
  return Run(out)


def _class_names(classes: PathLike | Sequence[str] | None) -> tuple[str, ...] | None:
  """Returns the class names of a sequence, or of a text file with one per line."""
  if classes is None:
    return None
  if isinstance(classes, Sequence) and not isinstance(classes, str):
    names, origin = tuple(classes), "classes"
  else:
    file, origin = pathlib.Path(classes), repr(str(classes))
    if not file.is_file():
      raise UsageError(f"no file {origin}; classes=FILE takes a text file with one class name per line")
    try:
      # some editors begin a file with a byte-order mark
      lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
      raise UsageError(f"{origin} is not text; classes=FILE takes a text file with one class name per line") from None
    names = tuple(name.strip() for name in lines if name.strip())
  twice = [name for i, name in enumerate(names) if name in names[:i]]
  if twice:
    raise UsageError(f"{origin} names the class {twice[0]!r} twice")
  return names


def _config(published: Published, architecture: Architecture, names: tuple[str, ...] | None) -> ConfigDict:
  """Builds the config of imported weights.

  Args:
    published: the network as its source publishes it.
    architecture: that of the weights, with their number of classes.
    names: of the classes; None for the source's own, where the weights have as many, and none otherwise.

  Raises:
    UsageError: if the number of names is not that of the classes, or a segmentation network has no names.
  """
  n = architecture.num_classes
  if names is not None and len(names) != n:
    raise UsageError(f"invalid classes with {len(names)} names; expected {n}, the number of classes of the weights")
  if names is None and len(published.classes) == n:
    names = tuple(published.classes)
  config = base()
  config.model.update({**published.model, "num_classes": n})
  config.data.update({"classes": names or (), "augment": "none", **published.preprocessing})
  config.optim.update({"name": "none", "ema": 0.0})
  task_class(architecture).configure_import(config, n)
  return config
