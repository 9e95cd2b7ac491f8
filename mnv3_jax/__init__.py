"""MobileNetV3 and its siblings in JAX: rebuilt, changed, measured and shipped.

The public API, imported on first use::

  import mnv3_jax as mnv3

  net = mnv3.zoo.mobilenetv3_large()                      # an Architecture; print(net) is the paper's table
  net = mnv3.edits.h_swish_from(net, 112)
  model, variables = mnv3.create_model(net, seed=0)       # or create_model("mobilenetv3_large", width=0.75)
  run = mnv3.train(mnv3.get_config("fashion_mnist"), "runs/a")
  mnv3.evaluate(run); mnv3.predict(run, "shoe.png"); mnv3.export(run, "a.tflite", quantize="int8")
  mnv3.predict("keras/MobileNetV3Large", "photo.jpg")     # published weights; list_weights() has their names
"""

import importlib as _importlib
import sys as _sys
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from mnv3_jax import search as search
  from mnv3_jax.accelerators.compilation import compile_for as compile_for
  from mnv3_jax.accelerators.measured_input import measure_input as measure_input
  from mnv3_jax.accelerators.scaling import compile_scaling as compile_scaling
  from mnv3_jax.architectures import cost as cost, edits as edits, zoo as zoo
  from mnv3_jax.architectures.spec import Architecture as Architecture
  from mnv3_jax.architectures.zoo import list_models as list_models
  from mnv3_jax.config_files import get_config as get_config
  from mnv3_jax.deploy.export import export as export
  from mnv3_jax.deploy.export_weights import export_weights as export_weights
  from mnv3_jax.deploy.push import push_to_hub as push_to_hub
  from mnv3_jax.latency.benchmark import benchmark as benchmark
  from mnv3_jax.models.folding import fold_batch_norm as fold_batch_norm
  from mnv3_jax.tables.build import build_table as build_table
  from mnv3_jax.tables.sweep import sweep as sweep
  from mnv3_jax.training.create import create_model as create_model
  from mnv3_jax.training.evaluation import evaluate as evaluate
  from mnv3_jax.training.imported import import_weights as import_weights
  from mnv3_jax.training.inspection import inspect_dataset as inspect_dataset
  from mnv3_jax.training.named_weights import load_weights as load_weights
  from mnv3_jax.training.prediction import predict as predict
  from mnv3_jax.training.run import open_dataset as open_dataset, train as train
  from mnv3_jax.training.trained import load as load
  from mnv3_jax.weights.hub.catalogue import list_weights as list_weights

__version__ = "0.1.0"

# public names and where they are defined, "module" or "module:attribute"; type checkers read the imports above
_PUBLIC = {
  "Architecture": "mnv3_jax.architectures.spec:Architecture",
  "benchmark": "mnv3_jax.latency.benchmark:benchmark",
  "build_table": "mnv3_jax.tables.build:build_table",
  "compile_for": "mnv3_jax.accelerators.compilation:compile_for",
  "compile_scaling": "mnv3_jax.accelerators.scaling:compile_scaling",
  "cost": "mnv3_jax.architectures.cost",
  "create_model": "mnv3_jax.training.create:create_model",
  "edits": "mnv3_jax.architectures.edits",
  "evaluate": "mnv3_jax.training.evaluation:evaluate",
  "export": "mnv3_jax.deploy.export:export",
  "export_weights": "mnv3_jax.deploy.export_weights:export_weights",
  "fold_batch_norm": "mnv3_jax.models.folding:fold_batch_norm",
  "get_config": "mnv3_jax.config_files:get_config",
  "import_weights": "mnv3_jax.training.imported:import_weights",
  "inspect_dataset": "mnv3_jax.training.inspection:inspect_dataset",
  "list_models": "mnv3_jax.architectures.zoo:list_models",
  "list_weights": "mnv3_jax.weights.hub.catalogue:list_weights",
  "load": "mnv3_jax.training.trained:load",
  "load_weights": "mnv3_jax.training.named_weights:load_weights",
  "measure_input": "mnv3_jax.accelerators.measured_input:measure_input",
  "open_dataset": "mnv3_jax.training.run:open_dataset",
  "predict": "mnv3_jax.training.prediction:predict",
  "push_to_hub": "mnv3_jax.deploy.push:push_to_hub",
  "search": "mnv3_jax.search",
  "sweep": "mnv3_jax.tables.sweep:sweep",
  "train": "mnv3_jax.training.run:train",
  "zoo": "mnv3_jax.architectures.zoo",
}

__all__ = [
  "Architecture",
  "__version__",
  "benchmark",
  "build_table",
  "compile_for",
  "compile_scaling",
  "cost",
  "create_model",
  "edits",
  "evaluate",
  "export",
  "export_weights",
  "fold_batch_norm",
  "get_config",
  "import_weights",
  "inspect_dataset",
  "list_models",
  "list_weights",
  "load",
  "load_weights",
  "measure_input",
  "open_dataset",
  "predict",
  "push_to_hub",
  "search",
  "sweep",
  "train",
  "zoo",
]


def __getattr__(name: str) -> object:
  if name not in _PUBLIC:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  module, _, attribute = _PUBLIC[name].partition(":")
  found = _importlib.import_module(module)
  value = getattr(found, attribute) if attribute else found
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


class _Package(_ModuleType):
  """This module: a public function stays where a subpackage of the same name (export) is imported after it."""

  def __setattr__(self, name: str, value: object) -> None:
    if not (name in _PUBLIC and isinstance(value, _ModuleType) and value.__name__ == f"{__name__}.{name}"):
      super().__setattr__(name, value)


_sys.modules[__name__].__class__ = _Package
