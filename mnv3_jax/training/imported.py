"""Import of published weights: a run directory from a weight file of another library."""

import codecs
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config import base
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.paths import expanded, read_bounded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.atomic import read_json
from mnv3_jax.runs.run import Run
from mnv3_jax.tasks.job import task_class
from mnv3_jax.training import trained
from mnv3_jax.types import PathLike
from mnv3_jax.weights import formats, sources, timm_config
from mnv3_jax.weights.content import Content
from mnv3_jax.weights.hub import files, repositories
from mnv3_jax.weights.hub.checksums import file_digest
from mnv3_jax.weights.hub.named import NamedWeights
from mnv3_jax.weights.mapping import Published

# of names of classes
MAX_CLASSES_BYTES = 2**22
CLASSES = "classes=FILE takes a text file with one class name per line"


def import_weights(
  source: str,
  model: str | None = None,
  file: PathLike | None = None,
  out: PathLike | None = None,
  *,
  classes: PathLike | Sequence[str] | None = None,
  width: float | None = None,
  minimalistic: bool | None = None,
  resolution: int | None = None,
  resolution_width: int | None = None,
  progress: bool = True,
) -> Run:
  """Imports published weights as a run directory, which evaluate, predict, export and train(init=...) take as any other.

  `import_weights("timm/mobilenetv3_large_100.ra_in1k", out="large")` downloads them; `import_weights("timm",
  "mobilenetv3_large_100", "model.safetensors", "large")` reads a file that is there.

  Args:
    source: name of weights that are downloaded, one of list_weights() or "hf://USER/REPOSITORY"; or with `file` one of
      "torchvision", "timm", "keras", "slim", "tf_object_detection" or "mnv3_jax", a file of push_to_hub.
    model: name of the network there, such as "mobilenetv3_large_100"; weights/sources.SOURCES lists them. None where the file
      fits one of them only, as frozen graphs of tf_object_detection do.
    file: the weights: .safetensors, .npz, .h5, .keras and .pb are read directly, files of torch.save (.pth, .pt, .bin, .ckpt,
      .pth.tar) with PyTorch's safe loader, pickles never; the content decides, not the suffix. The network may stand under any
      prefix ("module.", "model."), and averaged weights are preferred where a training checkpoint has them. Of timm's
      model.safetensors the config.json beside it sets padding and epsilon, if it is there. The classification head may be
      missing (num_classes=0 of timm, include_top=False of Keras): create_model and train(init=...) take the rest.
    out: directory to create.
    classes: class names, or a text file with one per line, where they are not the source's own.
    width, minimalistic, resolution, resolution_width: fields of config.model in which the file differs from what is published
      (alpha of Keras applications is `width`); the first two go with `file` only.
    progress: show a bar of a download on a terminal; elsewhere long downloads print a line every ten seconds.

  Returns:
    The Run: run.result["imported"] has the digest of the file, and of named weights the address, license and published metrics.

  Raises:
    UsageError: for an unknown name, source or network, with the nearest choice; if `out` exists; if a download fails; if the
      file has other tensors, naming the first and the network that it seems to be; if it has one logit only, or values that are
      not finite.
    FatalError: if the disk is full.
  """
  options = {"width": width, "minimalistic": minimalistic, "resolution": resolution, "resolution_width": resolution_width}
  given = {name: value for name, value in options.items() if value is not None}
  if source == "timm" and file is not None:
    given = {**_beside(pathlib.Path(expanded(file))), **given}
  if out is None:
    raise UsageError("out=None; expected a directory to create")
  out = expanded(out)
  # an invalid request is refused before the file is read
  if file is not None and model is not None:
    sources.published(source, model, **given).architecture()
  outputs.check_directory("out", out)
  if pathlib.Path(out).exists():
    raise UsageError(f"invalid out={str(out)!r}, which exists already; expected a new directory")
  names = _class_names(classes)
  if file is None:
    if model is not None:
      raise UsageError(f"file=None with model={model!r}; expected a file, or the name of weights, as list_weights() has them")
    weights = repositories.find(source)
    return import_named(weights, files.fetch(weights, progress), out, names, **given)
  content = formats.read(expanded(file))
  model = sources.model_of(source, content, expanded(file), **given) if model is None else model
  return _write(out, _Origin(source, model, given, pathlib.Path(expanded(file))), content, names)


def _beside(file: pathlib.Path) -> dict[str, Any]:
  """Returns the fields of config.model that a config.json of timm sets beside the weights that it describes."""
  config = file.with_name(timm_config.CONFIG)
  if file.name != timm_config.WEIGHTS or not config.is_file():
    return {}
  try:
    return repositories.arguments(read_json(config))
  except (AttributeError, TypeError, ValueError) as error:
    raise UsageError(f"invalid file={str(file)!r}; {str(config)!r}: {error}") from None


def import_named(
  weights: NamedWeights, file: pathlib.Path, out: PathLike, classes: tuple[str, ...] | None = None, **fields: Any
) -> Run:
  """Imports the downloaded file of named weights as a run directory.

  Args:
    weights: what was downloaded.
    file: where it is.
    out: directory to create.
    classes: names by label; None for those of the weights.
    **fields: resolution and resolution_width, where they are not those of the weights.

  Raises:
    UsageError: if the file has other tensors than the network.
  """
  for name in set(fields) - {"resolution", "resolution_width"}:
    raise UsageError(f"invalid {name}={fields[name]!r} with the name of weights, {weights.name!r}, which says the network")
  record = {"name": weights.name, "url": weights.url, "license": weights.license, "published": dict(weights.metrics)}
  # the hub's cache has a directory for every commit
  if re.fullmatch(r"[0-9a-f]{40}", file.parent.name):
    record["commit"] = file.parent.name
  origin = _Origin(weights.source, weights.model, {**weights.fields, **fields}, file, weights.preprocessing, record)
  return _write(out, origin, formats.read(file), classes or weights.classes or None)


@dataclasses.dataclass(frozen=True)
class _Origin:
  """Weight file and what it is said to be.

  Attributes:
    source, model: as of import_weights.
    fields: fields of config.model in which the file differs from the published network.
    file: path of the file.
    preprocessing: fields of config.data in which it differs.
    record: what result.json keeps of named weights.
  """

  source: str
  model: str
  fields: Mapping[str, Any]
  file: pathlib.Path
  preprocessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  record: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _write(out: PathLike, origin: _Origin, content: Content, names: tuple[str, ...] | None) -> Run:
  """Converts the content of a weight file and writes it as a run directory."""
  published, architecture, variables = sources.variables(
    origin.source, origin.model, content, str(origin.file), **origin.fields
  )
  published = dataclasses.replace(published, preprocessing={**published.preprocessing, **origin.preprocessing})
  config = _config(published, architecture, names)
  result = {
    "model": architecture.name,
    "params": cost.params(architecture),
    "madds": cost.madds(architecture),
    "steps": 0,
    "metrics": {},
    "imported": {
      "from": origin.source,
      "model": origin.model,
      "file": origin.file.name,
      "sha256": file_digest(origin.file),
      **origin.record,
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
