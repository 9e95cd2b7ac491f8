"""config.json of timm: what its `local-dir:` and `hf-hub:` read to build a network and to preprocess its images."""

from collections.abc import Sequence
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.types import Size
from mnv3_jax.weights.targets import Target

# beside this file alone timm's `local-dir:` finds a config.json, whatever else is in the directory
WEIGHTS, CONFIG = "model.safetensors", "config.json"
# arguments of timm's functions for fields of config.model, and their values where these differ
ARGUMENTS = {"padding": "pad_type", "bn_epsilon": "bn_eps"}
PADDINGS = {"same": "same", "symmetric": ""}


def arguments(target: Target) -> dict[str, Any]:
  """Returns the arguments of timm's function that the network needs, {} where it is as timm publishes it."""
  return {ARGUMENTS[name]: PADDINGS[value] if name == "padding" else value for name, value in sorted(target.fields.items())}


def config(
  target: Target, resolution: Size, preprocessing: Preprocessing, classes: Sequence[str], license: str | None
) -> dict[str, Any]:
  """Returns the content of config.json.

  Args:
    target: the network of timm.
    resolution: input size in pixels.
    preprocessing: of its input.
    classes: names by label; () without names.
    license: of the weights; None if it is not known.
  """
  num_classes = target.architecture.num_classes
  settings: dict[str, Any] = {
    "custom_load": False,
    "input_size": [3, *sizes.sides(resolution)],
    "fixed_input_size": False,
    "interpolation": preprocessing.interpolation,
    "crop_pct": float(preprocessing.crop),
    "crop_mode": "center",
    "mean": list(map(float, preprocessing.mean)),
    "std": list(map(float, preprocessing.std)),
    "num_classes": num_classes,
    "first_conv": "conv_stem",
    "classifier": "classifier",
  }
  found: dict[str, Any] = {"architecture": target.model.partition(".")[0], "num_classes": num_classes}
  if arguments(target):
    found["model_args"] = arguments(target)
  if classes:
    found["label_names"] = list(classes)
  return {**found, "pretrained_cfg": settings | ({"license": license} if license else {})}
