"""Import of published weights: a run directory from a weight file of another library."""

import codecs
import hashlib
import json
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config import base
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.paths import expanded, read_bounded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.run import Run
from mnv3_jax.tasks.job import task_class
from mnv3_jax.training import trained
from mnv3_jax.types import PathLike
from mnv3_jax.weights import formats, sources
from mnv3_jax.weights.mapping import Published

# of names of classes
MAX_CLASSES_BYTES = 2**22
CLASSES = "classes=FILE takes a text file with one class name per line"


def import_weights(
  source: str,
  model: str | None,
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
    source: "torchvision", "timm", "keras", "slim" or "tf_object_detection".
    model: name of the network there, such as "mobilenetv3_large_100"; weights/sources.SOURCES lists them. None where the file
      fits one of them only, as frozen graphs of tf_object_detection do.
    file: the weights: .safetensors, .npz, .h5, .keras and .pb are read directly, files of torch.save (.pth, .pt, .bin, .ckpt,
      .pth.tar) with PyTorch's safe loader, pickles never; the content decides, not the suffix. The network may stand under any
      prefix ("module.", "model."), and averaged weights are preferred where a training checkpoint has them.
    out: directory to create.
    classes: class names, or a text file with one per line, where they are not the source's own.
    width, minimalistic, resolution, resolution_width: fields of config.model in which the file differs from what is published
      (alpha of Keras applications is `width`).

  Returns:
    The Run: run.result has the number of parameters and the digest of the file.

  Raises:
    UsageError: for an unknown source or network, with the nearest choice; if `out` exists; if the file has other tensors,
      naming the first and the network that it seems to be; if it has one logit only, or values that are not finite.
  """
  options = {"width": width, "minimalistic": minimalistic, "resolution": resolution, "resolution_width": resolution_width}
  given = {name: value for name, value in options.items() if value is not None}
  file, out = expanded(file), expanded(out)
  # an invalid request is refused before the file is read
  if model is not None:
    sources.published(source, model, **given).architecture()
  outputs.check_directory("out", out)
  if pathlib.Path(out).exists():
    raise UsageError(f"invalid out={str(out)!r}, which exists already; expected a new directory")
  names = _class_names(classes)
  content = formats.read(str(file))
  model = sources.model_of(source, content, str(file), **given) if model is None else model
  published, architecture, variables = sources.variables(source, model, content, str(file), **given)
  config = _config(published, architecture, names)
  with pathlib.Path(file).open("rb") as opened:
    sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
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
      "sha256": sha256,
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
    names = tuple(name.strip() for name in _text(file, origin).splitlines() if name.strip())
  if not names:
    raise UsageError(f"{origin} names no class; {CLASSES}")
  for i, name in enumerate(names):
    if not isinstance(name, str) or not name or not name.isprintable():
      raise UsageError(f"{origin} has {name!r}, which is no name of a class")
    if name in names[:i]:
      raise UsageError(f"{origin} names the class {name!r} twice")
  return names


def _text(file: pathlib.Path, origin: str) -> str:
  """Reads a text file of class names in UTF-8, or UTF-16 with a byte-order mark, which some editors write."""
  if not file.is_file():
    raise UsageError(f"no file {origin}; {CLASSES}")
  try:
    content = read_bounded(file, MAX_CLASSES_BYTES)
  except OSError as error:
    raise UsageError(f"{origin} cannot be read: {error.strerror}") from None
  utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  try:
    text = content.decode("utf-16" if utf16 else "utf-8-sig")
  except UnicodeDecodeError as error:
    line = content[: error.start].count(b"\n") + 1
    raise UsageError(f"{origin} is not text in UTF-8 (line {line}); {CLASSES}, in UTF-8") from None
  if "\0" in text:
    raise UsageError(f"{origin} is not text in UTF-8 (zero bytes); {CLASSES}, in UTF-8")
  if text.lstrip()[:1] in ("[", "{"):
    try:
      json.loads(text)
    except ValueError:
      return text
    raise UsageError(f"{origin} is JSON; {CLASSES}")
  return text


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
  if names is None and len(published.classes) == n:
    names = tuple(published.classes)
  config = base()
  config.model.update({**published.model, "num_classes": n})
  config.data.update({"classes": names or (), "augment": "none", **published.preprocessing})
  config.optim.update({"name": "none", "ema": 0.0})
  task_class(architecture).configure_import(config, n)
  if names is not None and len(names) != n:
    hint = "; one name per line" if len(names) == 1 and "," in names[0] else ""
    given = counted(len(names), "name")
    raise UsageError(f"invalid classes with {given}; expected {n}, the number of classes of the weights{hint}")
  return config
