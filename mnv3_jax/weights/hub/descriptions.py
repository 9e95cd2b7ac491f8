"""config.json of repositories that push_to_hub writes: the network as fields of config.model, beside timm's own description."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mnv3_jax import __version__
from mnv3_jax.architectures import fields
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.types import Size
from mnv3_jax.weights import own, sources, timm_config
from mnv3_jax.weights.targets import Target

# section of config.json
SECTION = "mnv3_jax"
# values of fields of config.model
VALUES = (bool, int, float, str)


def description(
  target: Target,
  model: Mapping[str, Any],
  resolution: Size,
  preprocessing: Preprocessing,
  classes: Sequence[str],
  license: str | None,
) -> str:
  """Returns the content of config.json.

  Args:
    target: the network whose names the weights have: timm's, or this project's own.
    model: fields of config.model that are set, num_classes among them.
    resolution: input size in pixels.
    preprocessing: of the input.
    classes: names by label; () without names.
    license: of the weights; None if it is not known.
  """
  found = timm_config.config(target, resolution, preprocessing, classes, license)
  if target.format == own.SOURCE:
    # timm has no network of this name
    del found["architecture"]
  ours = {"version": __version__, "source": target.format, "network": target.model, "model": dict(model)}
  return json.dumps({**found, SECTION: ours}, indent=2) + "\n"


def network_of(section: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
  """Returns (source, network, fields of config.model that replace the network's own) of a section of config.json.

  Raises:
    ValueError: for an unknown network or field, or a value that no field has.
  """
  source, network, model = section.get("source"), section.get("network"), section.get("model")
  if source not in (own.SOURCE, "timm") or network not in sources.SOURCES[source] or not isinstance(model, dict):
    raise ValueError(f"{SECTION} names no network; expected one that push_to_hub of this version or an earlier one has written")
  for name, value in model.items():
    if name not in ("name", *fields.FIELDS) or not isinstance(value, VALUES):
      raise ValueError(f"{SECTION} has {name}={value!r}, which is no field of config.model of this version")
  # as the field types say, or ArchitectureError
  fields.architecture(**model)
  # unset fields are those of the network in the paper, not those of timm's
  return source, network, {**dict.fromkeys(sources.SOURCES[source][network].model), **model}
