"""All published weights that are known by name."""

import difflib
import fnmatch
import os

from mnv3_jax.errors import UsageError
from mnv3_jax.weights.hub import keras_weights, timm_weights, torchvision_weights
from mnv3_jax.weights.hub.named import NamedWeights

# before the name of a repository of the Hugging Face Hub
HUB_PREFIX = "hf://"

WEIGHTS = {w.name: w for w in (*torchvision_weights.WEIGHTS, *timm_weights.WEIGHTS, *keras_weights.WEIGHTS)}
ALIASES = {**torchvision_weights.ALIASES, **timm_weights.ALIASES, **keras_weights.ALIASES}
# words before the slash
SOURCES = tuple(dict.fromkeys(name.partition("/")[0] for name in WEIGHTS))
EXPECTED = f"expected SOURCE/NAME, as list_weights() has them (of {', '.join(SOURCES)}), or {HUB_PREFIX}USER/REPOSITORY"


def list_weights(pattern: str = "*") -> list[NamedWeights]:
  """Lists published weights that `load_weights` downloads, with their published metrics.

  Args:
    pattern: shell pattern of names, such as `"*v3*small*"`; case is ignored.

  Returns:
    NamedWeights: name, architecture, params, resolution, metrics (percent), dataset, license, url.
  """
  return [w for name, w in WEIGHTS.items() if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def is_name(text: object) -> bool:
  """Tells whether text is meant as a name of weights, and not as a path: no directory of this name exists."""
  if not isinstance(text, str) or os.path.lexists(text):
    return False
  return text.startswith((HUB_PREFIX, *(f"{source}/" for source in SOURCES)))


def find(name: str) -> NamedWeights:
  """Returns the weights of a name of SOURCES.

  Raises:
    UsageError: for an unknown name, with the nearest one.
  """
  found = WEIGHTS.get(ALIASES.get(name, name))
  if found is not None:
    return found
  names = {known.lower(): known for known in (*WEIGHTS, *ALIASES)}
  source, _, model = name.lower().partition("/")
  begun = [known for lower, known in names.items() if model and lower.startswith(name.lower())]
  close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
  nearest = min(begun, key=len) if begun else names[close[0]] if close else None
  hint = f"did you mean {nearest!r}?" if nearest else f"{EXPECTED}"
  untrained = source == "timm" and model.endswith(timm_weights.UNTRAINED)
  raise UsageError(f"no weights {name!r}" + (", which timm does not publish" if untrained else "") + f"; {hint}")
