"""Architecture search: networks inside a trained one, evaluated by masks of its channels, and NetAdapt."""

import importlib as _importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from mnv3_jax.search.run import netadapt as netadapt

__all__ = ["netadapt"]


def __getattr__(name: str) -> object:
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(_importlib.import_module("mnv3_jax.search.run"), name)
