"""Lines of Python that load a written weight file in the library that it is for."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.types import Size
from mnv3_jax.weights import timm_config
from mnv3_jax.weights.targets import Target

# classes that torchvision counts beside ours, by the functions that would download a backbone unless told
WITH_BACKBONE = {"lraspp_mobilenet_v3_large": 0, "ssdlite320_mobilenet_v3_large": 1}
# its networks whose backbone is that of ImageNet's weights
FULL_TAIL = ".full_tail"
# those of Keras that would normalize their input themselves
NORMALIZING = "MobileNetV3"


def lines(target: Target, file: pathlib.Path, resolution: Size) -> tuple[str, ...]:
  """Returns lines of Python that build the network in its library and load the file.

  Args:
    target: the network.
    file: the written file.
    resolution: input size in pixels.
  """
  return _LINES[target.format](target, file, resolution)


def _call(function: str, *positional: str, **arguments: Any) -> str:
  words = [*map(repr, positional), *(f"{name}={value!r}" for name, value in arguments.items())]
  return f"{function}({', '.join(words)})"


def _width(target: Target, name: str) -> dict[str, float]:
  width = target.architecture.width
  return {} if width == 1 else {name: width}


def _timm(target: Target, file: pathlib.Path, resolution: Size) -> tuple[str, ...]:
  del resolution
  if file.name == timm_config.WEIGHTS:
    return ("import timm", "model = " + _call("timm.create_model", f"local-dir:{file.parent}", pretrained=True))
  given = {"num_classes": target.architecture.num_classes, **timm_config.arguments(target), "checkpoint_path": str(file)}
  return ("import timm", "model = " + _call("timm.create_model", target.model.partition(".")[0], **given))


def _torchvision(target: Target, file: pathlib.Path, resolution: Size) -> tuple[str, ...]:
  del resolution
  model, num_classes = target.model.partition(".")[0], target.architecture.num_classes
  given: dict[str, Any] = _width(target, "width_mult")
  if model in WITH_BACKBONE:
    num_classes += WITH_BACKBONE[model]
    given["weights_backbone"] = "DEFAULT" if target.model.endswith(FULL_TAIL) else None
  build = _call("torchvision.models.get_model", model, num_classes=num_classes, **given)
  return (
    "import torchvision, safetensors.torch",
    f"model = {build}",
    f"model.load_state_dict(safetensors.torch.load_file({str(file)!r}))",
  )


def _keras(target: Target, file: pathlib.Path, resolution: Size) -> tuple[str, ...]:
  given: dict[str, Any] = {"weights": str(file), "input_shape": (*sizes.sides(resolution), 3)}
  given |= {"classes": target.architecture.num_classes, "classifier_activation": None, **_width(target, "alpha")}
  given |= {name: value for name, value in target.fields.items() if name == "minimalistic"}
  if target.model.startswith(NORMALIZING):
    given["include_preprocessing"] = False
  return ("import keras", "model = " + _call(f"keras.applications.{target.model}", **given))


def _slim(target: Target, file: pathlib.Path, resolution: Size) -> tuple[str, ...]:
  del resolution
  given: Mapping[str, Any] = {"num_classes": target.architecture.num_classes, **_width(target, "depth_multiplier")}
  return (
    f"# the network of {target.model} with {', '.join(f'{name}={value!r}' for name, value in given.items())}, "
    "then in a session:",
    f"values = numpy.load({str(file)!r})",
    "for variable in tensorflow.compat.v1.global_variables(): variable.load(values[variable.op.name])",
  )


_LINES: dict[str, Callable[[Target, pathlib.Path, Size], tuple[str, ...]]] = {
  "timm": _timm,
  "torchvision": _torchvision,
  "keras": _keras,
  "slim": _slim,
}
