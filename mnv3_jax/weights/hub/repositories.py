"""Weights in repositories of the Hugging Face Hub, "hf://USER/REPOSITORY", that push_to_hub or timm saved.

The repository's config.json names the network, its input preprocessing and its classes; README.md the license.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.names import printable, require_printable
from mnv3_jax.runs.atomic import read_json
from mnv3_jax.weights import timm
from mnv3_jax.weights.hub import catalogue, descriptions, hugging_face
from mnv3_jax.weights.hub.named import HubFile, NamedWeights

CONFIG, CARD = "config.json", "README.md"
# bytes of a model card that are looked at for its license
CARD_BYTES = 2**16
# paddings by timm's names
PADDINGS = {"same": "same", "": "symmetric"}
# arguments of timm's functions that change nothing in what a trained network computes, or that stand elsewhere too
IN_TRAINING = ("num_classes", "drop_rate", "drop_path_rate", "bn_momentum")
# arguments that timm writes for every network, and their values for those that are known here
USUAL = {"in_chans": 3, "global_pool": "avg"}
ADVICE = "download its file, and name the network: import_weights(source, model, file, out)"


def find(name: str) -> NamedWeights:
  """Returns the weights of any name: one of catalogue.WEIGHTS, or a repository, whose description is downloaded.

  Args:
    name: "timm/NAME", "torchvision/NAME", "keras/NAME", or "hf://USER/REPOSITORY", with @REVISION if not the newest.

  Raises:
    UsageError: for an unknown name, with the nearest one; if the repository has no network of timm that is known here.
  """
  if not name.startswith(catalogue.HUB_PREFIX):
    return catalogue.find(name)
  path, _, revision = name.removeprefix(catalogue.HUB_PREFIX).partition("@")
  if not re.fullmatch(r"[\w.-]+/[\w.-]+", path, re.ASCII):
    raise UsageError(
      f"invalid name {name!r}; expected {catalogue.HUB_PREFIX}USER/REPOSITORY, or {name.partition('@')[0]}@REVISION"
    )
  place = HubFile(path, revision or None)
  config = hugging_face.download(place, (CONFIG,))
  return described(name, place, read_json(config), _license(place))


def described(name: str, place: HubFile, config: Mapping[str, Any], license: str | None) -> NamedWeights:
  """Returns the weights that a config.json of push_to_hub or of timm describes.

  Args:
    name: as the user gave it.
    place: the repository.
    config: content of config.json.
    license: as the model card has it.

  Raises:
    UsageError: if the network is not one of timm's that are known here, or a field has an invalid value.
  """
  if isinstance(config.get(descriptions.SECTION), dict):
    return _ours(name, place, config, license)
  model = config.get("architecture")
  if not isinstance(model, str):
    kind = config.get("model_type")
    has = f"a config.json of transformers ({kind})" if isinstance(kind, str) else "a config.json without 'architecture'"
    raise UsageError(f"{name!r} has {has}; expected one of timm. {ADVICE}")
  if model not in timm.MODELS:
    names = [known for known in timm.MODELS if "." not in known]
    raise UsageError(f"{name!r} has the network {model!r} of timm, which is not known here; {nearest(model, names)}")
  # older files have these fields at the top
  settings = config.get("pretrained_cfg", config)
  try:
    return NamedWeights(
      name=name,
      source="timm",
      model=model,
      place=place,
      license=license,
      dataset=None,
      num_classes=_num_classes(config, settings),
      fields={**_resolution(settings), **arguments(config)},
      preprocessing=_preprocessing(settings),
      classes=_classes(config, settings),
    )
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UsageError(f"{name!r} has an invalid config.json: {error}") from None


def _ours(name: str, place: HubFile, config: Mapping[str, Any], license: str | None) -> NamedWeights:
  """Returns the weights that a config.json of push_to_hub describes."""
  settings = config.get("pretrained_cfg", {})
  try:
    source, network, model = descriptions.network_of(config[descriptions.SECTION])
    return NamedWeights(
      name=name,
      source=source,
      model=network,
      place=place,
      license=license,
      dataset=None,
      num_classes=model.get("num_classes"),
      fields=model,
      preprocessing=_preprocessing(settings),
      classes=_classes(config, settings),
    )
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UsageError(f"{name!r} has an invalid config.json: {error}") from None


def _num_classes(config: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
  found = config.get("num_classes", settings.get("num_classes"))
  return None if found is None else int(found)


def _resolution(settings: Mapping[str, Any]) -> dict[str, int]:
  """Returns the input size as fields of config.model."""
  channels, height, width = settings.get("input_size", (3, 224, 224))
  if channels != 3:
    raise ValueError(f"input_size has {channels} channels; expected 3")
  return {"resolution": int(height), **({} if height == width else {"resolution_width": int(width)})}


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of config.model that the arguments of timm's function for the network set.

  Raises:
    ValueError: for an argument that changes what the network computes in a way that is not known here.
  """
  found: dict[str, Any] = {}
  for name, value in config.get("model_args", {}).items():
    if name == "pad_type" and value in PADDINGS:
      found["padding"] = PADDINGS[value]
    elif name == "bn_eps":
      found["bn_epsilon"] = float(value)
    elif name not in IN_TRAINING and not (name in USUAL and value == USUAL[name]):
      raise ValueError(f"model_args has {name}={value!r}, which is not known here")
  return found


def _preprocessing(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of config.data that a config of timm has."""
  found: dict[str, Any] = {name: tuple(map(float, settings[name])) for name in ("mean", "std") if name in settings}
  if "crop_pct" in settings:
    found["crop"] = float(settings["crop_pct"])
  if "interpolation" in settings:
    found["interpolation"] = str(settings["interpolation"])
    if found["interpolation"] not in ("bilinear", "bicubic"):
      raise ValueError(f"interpolation is {found['interpolation']!r}; expected 'bilinear' or 'bicubic'")
  return found


def _classes(config: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the class names by label: readable ones where there are any; () without names."""
  names = settings.get("label_names", config.get("label_names")) or ()
  readable = settings.get("label_descriptions", config.get("label_descriptions")) or {}
  found = tuple(str(readable.get(name, name)) for name in names) if isinstance(readable, dict) else tuple(map(str, readable))
  require_printable(found, CONFIG)
  return found


def _license(place: HubFile) -> str | None:
  """Returns the license that the model card of a repository states."""
  try:
    card = hugging_face.download(place, (CARD,))
  except UsageError:
    # a repository may have no card, and the cache may not have it
    return None
  return license_of(card)


def license_of(card: pathlib.Path) -> str | None:
  """Returns the license in the YAML header of a model card; None without one."""
  with card.open("rb") as file:
    text = file.read(CARD_BYTES).decode("utf-8", "replace")
  header = re.match(r"---\r?\n(.*?)\r?\n---", text, re.S)
  if not header:
    return None
  found = {key: value.strip("'\" ") for key, value in re.findall(r"^(license(?:_name)?):[ ]*(\S.*?)\s*$", header[1], re.M)}
  # of a license without an identifier the header has the name
  stated = found.get("license_name") if found.get("license") == "other" else found.get("license")
  return None if stated is None else printable(stated)
