"""Run: a run directory as a value, which `train` and `import_weights` return and everything after training takes."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from mnv3_jax.config import from_dict
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
  """Run directory, finished or not. A Run is path-like: wherever a `workdir` is expected, it may stand.

  Attributes:
    workdir: path of the directory.
  """

  workdir: pathlib.Path

  def __init__(self, workdir: PathLike):
    object.__setattr__(self, "workdir", pathlib.Path(expanded(workdir)))

  @property
  def config(self) -> "ConfigDict":
    """The complete config. Raises UsageError where `workdir` is not a run directory."""
    return from_dict(RunDirectory(self.workdir).config(), f"{self.workdir}/config.json")

  @property
  def result(self) -> dict[str, Any] | None:
    """Content of result.json (model, params, steps, metrics, versions, ...); None before the run is finished."""
    return RunDirectory(self.workdir).result()

  @property
  def metrics(self) -> list[dict[str, Any]]:
    """Metrics over time: records {"step", "epoch", "split", "weights", "values", "seconds"}."""
    return RunDirectory(self.workdir).metrics()

  def __fspath__(self) -> str:
    return str(self.workdir)

  def __repr__(self) -> str:
    return f"Run({', '.join([repr(str(self.workdir)), *self._summary()])})"

  def _summary(self) -> list[str]:
    try:
      result = self.result
    except UsageError:
      return ["damaged"]
    if result is None:
      return [self.config.model.name, "not finished"] if (self.workdir / "config.json").is_file() else ["not started"]
    source = result.get("imported")
    parts = [str(result.get("model")), _origin(source) if source else f"{result.get('steps', 0):,} steps"]
    test = result["metrics"].get("test", {})
    for weights in [w for w in ("ema", "raw") if w in test][:1]:
      # the task's main metric follows the loss
      name = next((n for n in test[weights] if n not in ("loss", "count")), None)
      if name:
        parts.append(f"test {name}={test[weights][name]:.4f} ({weights})")
    return parts


def _origin(imported: dict[str, Any]) -> str:
  """Formats where imported weights are from, and their license."""
  license = imported.get("license")
  return f"imported from {imported.get('name') or imported.get('from')}" + (f" ({license})" if license else "")
