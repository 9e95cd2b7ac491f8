"""Exports trained weights to a file for timm, torchvision, Keras or TF-slim: the importers' name maps, run backwards."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.paths import expanded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.run import Run
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike, Size, Variables
from mnv3_jax.weights import targets, timm_config, usage, written_files
from mnv3_jax.weights.targets import Target

if TYPE_CHECKING:
  from mnv3_jax.weights.content import Tensors


@dataclasses.dataclass(frozen=True)
class ExportedWeights:
  """Weights in a file for another library.

  Attributes:
    file: its path.
    format: the library, a key of targets.FORMATS.
    model: name of the network there.
    arguments: fields of config.model that the library's function for it is given, such as {"width": 0.75}.
    num_classes: number of classes.
    resolution: input size in pixels.
    preprocessing: of the input, which only detectors of torchvision do by themselves.
    num_tensors, num_bytes: size of the file.
    config: config.json beside it; None without one.
    usage: lines of Python that load the file there.
  """

  file: pathlib.Path
  format: str
  model: str
  arguments: Mapping[str, Any]
  num_classes: int
  resolution: Size
  preprocessing: Preprocessing = dataclasses.field(repr=False)
  num_tensors: int = dataclasses.field(repr=False)
  num_bytes: int = dataclasses.field(repr=False)
  config: pathlib.Path | None = dataclasses.field(repr=False)
  usage: tuple[str, ...] = dataclasses.field(repr=False)

  def lines(self) -> list[str]:
    """Formats it as text."""
    view, beside = self.preprocessing, f", and {self.config.name} beside it" if self.config else ""
    classes, tensors = counted(self.num_classes, "class", "classes"), counted(self.num_tensors, "array")
    return [
      f"{self.file}: {self.format}'s {self.model}, {classes}, {tensors}, {self.num_bytes / 1e6:.2f} MB{beside}",
      f"  input: {sizes.pixels(self.resolution)}, pixels from 0 to 1, minus {view.mean}, divided by {view.std}",
      *(f"  {line}" for line in self.usage),
    ]


def export_weights(
  run: "TrainedRun | Run | PathLike | tuple[nn.Module, Variables]", format: str, file: PathLike, *, weights: str = "ema"
) -> ExportedWeights:
  """Exports weights to a file that another library loads: the same network with the same outputs there.

  `export_weights(run, "timm", "small/model.safetensors")` writes config.json beside the file, by which
  `timm.create_model("local-dir:small", pretrained=True)` builds the network. `import_weights` reads all of these files; arrays
  come back as they were, to the bit, but those of TF-slim's V3 that follow squeeze-excite, whose gate has another maximum.

  Args:
    run: a run, its directory, the name of published weights, or what `load` returned; or (model, variables), as `create_model`
      returns them.
    format: "timm", "torchvision", "keras" or "slim".
    file: path to write: .safetensors for timm (named model.safetensors, it gets a config.json) and torchvision, .weights.h5 or
      .h5 for Keras 3 or 2, .npz for slim.
    weights: "ema", "raw" or "best", where `run` is not loaded yet.

  Returns:
    The ExportedWeights: file, format, model, arguments, usage (lines of Python that load the file there), lines().

  Raises:
    UsageError: if the format has no network that computes the same, naming what differs and the formats that have one; for a
      file of another suffix; for a quantization-aware run, whose ranges no format has. Nothing is written then.
  """
  check_file(format, file)
  path = pathlib.Path(expanded(file))
  source = _Source.of(run, weights)
  target = targets.find(format, source.architecture)
  _check_preprocessing(target, source.preprocessing)
  tensors = target.tensors(source.variables)
  content, config = _content(target, tensors, path.name), path.with_name(timm_config.CONFIG)
  described = format == "timm" and path.name == timm_config.WEIGHTS
  resolution = source.architecture.resolution
  # the old description is not that of the new weights
  write_atomically(path, content, outdated=config if described else None)
  if described:
    found = timm_config.config(target, resolution, source.preprocessing, source.classes, source.license)
    write_atomically(config, json.dumps(found, indent=2) + "\n")
  return ExportedWeights(
    file=path,
    format=format,
    model=target.model,
    arguments=dict(target.fields),
    num_classes=target.architecture.num_classes,
    resolution=resolution,
    preprocessing=source.preprocessing,
    num_tensors=len(tensors),
    num_bytes=len(content),
    config=config if described else None,
    usage=usage.lines(target, path, resolution),
  )


@dataclasses.dataclass(frozen=True)
class _Source:
  """Weights to export, with what a description of them says."""

  architecture: Architecture
  variables: Variables
  preprocessing: Preprocessing = Preprocessing()
  classes: Sequence[str] = ()
  license: str | None = None

  @classmethod
  def of(cls, run: "TrainedRun | Run | PathLike | tuple[nn.Module, Variables]", weights: str) -> "_Source":
    """Returns the weights of a run, or a model and its variables."""
    if isinstance(run, tuple):
      model, variables = run
      # every module of models/network.py has its Architecture
      return cls(model.net, variables)  # pyright: ignore[reportAttributeAccessIssue]
    found = resolve(run, weights)
    check_exportable(found)
    imported = (Run(found.workdir).result or {}).get("imported", {})
    return cls(found.architecture, found.variables, found.dataset.preprocessing, found.classes, imported.get("license"))


def check_exportable(run: TrainedRun) -> None:
  """Raises UsageError for a quantization-aware run."""
  if run.config.quantize_aware:
    raise UsageError(
      f"invalid run={str(run.workdir)!r}, which is quantization-aware: its ranges have no place in weights for other "
      "libraries; export writes an int8 file of it"
    )


def check_file(format: str, file: PathLike) -> None:
  """Raises UsageError for an unknown format, a name that its library does not load, or another config.json beside it."""
  if format not in targets.FORMATS:
    raise UsageError(f"invalid format={format!r}; {nearest(format, targets.FORMATS)}")
  path, suffix = pathlib.Path(expanded(file)), targets.FORMATS[format]
  outputs.check_file("file", path, suffix)
  if path.suffix.lower() != suffix:
    raise UsageError(f"invalid file={str(path)!r}; expected the name of a {suffix} file")
  config = path.with_name(timm_config.CONFIG)
  if format == "timm" and path.name == timm_config.WEIGHTS and config.is_file() and "architecture" not in read_json(config):
    raise UsageError(f"invalid file={str(path)!r}; {str(config)!r} is there, and not timm's: expected a directory of its own")


def _check_preprocessing(target: Target, preprocessing: Preprocessing) -> None:
  """Raises UsageError for another mean or standard deviation than a network has that normalizes its images itself."""
  published = target.published
  if not published.normalizes:
    return
  for name in ("mean", "std"):
    ours, theirs = tuple(map(float, getattr(preprocessing, name))), tuple(map(float, published.preprocessing[name]))
    if ours != theirs:
      raise UsageError(
        f"invalid format={target.format!r}: {target.model} there normalizes images itself, with {name}={theirs} instead of "
        f"{ours}"
      )


def _content(target: Target, tensors: "Tensors", name: str) -> bytes:
  """Returns the content of a file of the target's format."""
  if target.format == "keras":
    names = target.published.names(target.architecture)
    depthwise = frozenset(names[layer.name].layer for layer in cost.layers(target.architecture) if layer.kind == "depthwise")
    return written_files.keras_content(tensors, depthwise, name)
  if target.format == "slim":
    return written_files.npz_content(tensors)
  return written_files.safetensors_content(tensors)
