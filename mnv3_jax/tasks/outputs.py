"""Outputs of networks and of exported files, as tasks describe and compare them."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Num

# unlike typing's before Python 3.12, its isinstance() evaluates no properties
from typing_extensions import Protocol, runtime_checkable

from mnv3_jax.boxes.detection_operator import DetectionOperator
from mnv3_jax.tasks.agreement import Agreement
from mnv3_jax.types import Pixels

# outputs of a network: logits, or any pytree of arrays whose first axis is the batch
Outputs = Any


@runtime_checkable
class FileModel(Protocol):
  """Exported network as tasks use it; export/runtime.py has the implementation."""

  @property
  def takes_pixels(self) -> bool: ...
  @property
  def ops(self) -> Mapping[str, int]: ...
  @property
  def note(self) -> Mapping[str, Any] | None: ...
  def run_all(self, images: Num[np.ndarray, "n h w c"]) -> Any: ...


@runtime_checkable
class Comparison(Protocol):
  """Agreement of an exported network with Flax over batches."""

  def add(self, expected: Any, found: Any) -> None:
    """Adds a batch: outputs of Flax, and outputs of the file."""
    ...

  def agreement(self) -> Agreement:
    """Returns the agreement over everything added."""
    ...


@dataclasses.dataclass(frozen=True)
class OutputSpec:
  """Outputs of an exported network.

  Attributes:
    transform: applied to the network's outputs inside the graph.
    tensors: for each output tensor its metadata {"shape", "type", "meaning"}, in the order of the file.
    decode: file outputs of a batch to network outputs that `Task.eval_outputs` takes.
    comparison: makes the Comparison of network outputs with file outputs.
    positions: where an image has several classes, what has one, e.g. "pixels".
    operator: custom operator appended to the graph, which takes the transformed outputs; `tensors` are its outputs then.
  """

  transform: Callable[[Outputs], Outputs]
  tensors: tuple[dict[str, Any], ...]
  decode: Callable[[Any], Outputs]
  comparison: Callable[[], Comparison]
  positions: str = ""
  operator: DetectionOperator | None = None


@dataclasses.dataclass(frozen=True)
class TaskReport:
  """Part of a run's report that depends on the task.

  Attributes:
    examples: evaluated with the file.
    tflite: metrics of the file as report.json keeps them: the main metric, "agrees", "max_difference".
    agrees: agreement with Flax as text.
    per: preposition between the main metric and the number of examples, "of" or "on".
    class_table: rows of a Markdown table by class, header first.
    images: a few evaluation images, (file stem, (h, w, 3) uint8).
    draw: writes the picture of predictions, a PNG.
  """

  examples: int
  tflite: dict[str, Any]
  agrees: str
  per: str
  class_table: list[str]
  images: list[tuple[str, Pixels]]
  draw: Callable[[pathlib.Path], None]
