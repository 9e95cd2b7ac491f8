"""Content of a weight file, as formats.read returns it."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from jaxtyping import Shaped

from mnv3_jax.errors import UsageError

# array of a weight file, of any dtype and shape
Weight: TypeAlias = Shaped[np.ndarray, "..."]
# arrays under their names in a source
Tensors: TypeAlias = dict[str, Weight]

# of all arrays of a file together; MobileNetV2 1.4 with 21,841 classes, averages and momenta has less
# Some readers have a file twice in memory
MAX_BYTES = 2**29
# characters of a name in an error message
MAX_NAME = 80


@dataclasses.dataclass(frozen=True)
class KerasLayers:
  """Layers with weights of a Keras file.

  Attributes:
    layers: (layer name, its arrays), in the file's order.
    ordered: whether the order is that of the model (legacy files); otherwise only the names count.
  """

  layers: list[tuple[str, list[Weight]]]
  ordered: bool


# content of a weight file
Content: TypeAlias = Tensors | KerasLayers


def shown(name: str) -> str:
  """Returns a name out of a file as an error message can show it: printable, on one line, not too long."""
  word = name if name.isprintable() else repr(name)
  return word if len(word) <= MAX_NAME else f"{word[: MAX_NAME - 3]}..."


def check_bytes(path: pathlib.Path, declared: Iterable[int]) -> None:
  """Raises UsageError if the arrays of a file, by the sizes that it declares, have more than MAX_BYTES; reads none of them."""
  total = sum(declared)
  if total > MAX_BYTES:
    raise UsageError(
      f"{str(path)!r} declares {total / 2**30:,.2f} GiB of arrays; expected at most {MAX_BYTES / 2**30:g} GiB, more than any "
      "network here has"
    )
