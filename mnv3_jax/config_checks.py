"""Checks of configs: types of fields, and sizes that no machine holds."""

from ml_collections import ConfigDict

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.errors import UsageError

# largest whole number that every number format here represents
WHOLE = 2**53
# of the images of one step, over all devices: more than any machine reads
STEP_BYTES = 2**40
TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", tuple: "a list"}
# largest side of an image in pixels, and parameters of a network
MAX_SIDE, MAX_PARAMS = 2**16, 10**10


def shortened(value: object) -> str:
  """Returns the repr of a value, at most 200 characters of it."""
  if isinstance(value, int) and abs(value) > WHOLE:
    return "a number of more than 15 digits"
  text = repr(value)
  return text if len(text) <= 200 else f"{text[:200]}..."


def check_types(config: ConfigDict, default: ConfigDict, prefix: str = "config") -> None:
  """Raises UsageError for a field of another type than its default, or a number that no computation represents."""
  for name, usual in default.items():
    value, field = config[name], f"{prefix}.{name}"
    if isinstance(usual, ConfigDict):
      if not isinstance(value, ConfigDict):
        raise UsageError(f"invalid {field}={shortened(value)}; expected a section")
      check_types(value, usual, field)
      continue
    kind = type(usual)
    whole = isinstance(value, int) and not isinstance(value, bool)
    # fields of config.model and of the preprocessing have no default here, and checks of their own
    fits = usual is None or (isinstance(value, kind) and isinstance(value, bool) == (kind is bool)) or (kind is float and whole)
    if not fits or (whole and abs(value) > WHOLE):
      raise UsageError(f"invalid {field}={shortened(value)}; expected {TYPE_NAMES.get(kind, kind.__name__)}")


def check_memory(config: ConfigDict, architecture: Architecture) -> None:
  """Raises UsageError for a network or a batch that no machine holds, before anything is allocated."""
  for name in ("train_size", "train_width"):
    if config.data[name] > MAX_SIDE:
      raise UsageError(f"invalid config.data.{name}={config.data[name]}; expected at most {MAX_SIDE:,} px")
  height, width = sizes.sides(architecture.resolution)
  if max(height, width) > MAX_SIDE:
    name = "resolution" if height > MAX_SIDE else "resolution_width"
    raise UsageError(f"invalid config.model.{name}={max(height, width)}; expected at most {MAX_SIDE:,} px")
  n = cost.params(architecture)
  if n > MAX_PARAMS:
    raise UsageError(f"invalid config.model with {n:.3g} parameters; expected at most {MAX_PARAMS:.0e}")
  for section in ("train", "evaluate"):
    images = config[section].batch_size
    if 12 * images * height * width > STEP_BYTES:
      size = f"{images:,} images of {sizes.pixels(architecture.resolution)}"
      raise UsageError(f"invalid config.{section}.batch_size={images}; {size} take more than {STEP_BYTES >> 30:,} GB")
