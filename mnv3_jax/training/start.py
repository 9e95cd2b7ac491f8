"""Initial variables of a run: random, or from a checkpoint of another run or an import, with a new head for other classes."""

from collections.abc import Callable

from ml_collections import ConfigDict

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config import from_dict
from mnv3_jax.errors import UsageError
from mnv3_jax.models.fake_quantization import is_range
from mnv3_jax.names import counted
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import trained
from mnv3_jax.training.checkpoints import flatten, in_layers, unflatten
from mnv3_jax.training.named_weights import directory_of
from mnv3_jax.types import PathLike, Variables

# input preprocessing belongs to the weights
PREPROCESSING = ("mean", "std", "crop", "interpolation")
# fields of config.model that another task does not inherit
TASK_FIELDS = ("num_classes", "resolution", "resolution_width", "dropout", *fields.HEAD_FIELDS)


def inherit_settings(config: ConfigDict, workdir: PathLike) -> None:
  """Completes a config with the network fields (but the classes) and the preprocessing of config.train.init.

  A run that has begun before has them in its own config.json, and does not need the other directory any more.

  Args:
    config: of the new run; fields that are None are set.
    workdir: of the new run.

  Raises:
    UsageError: if config.train.init is no run directory and no name, or is of another network than config.model.name.
  """
  begun = RunDirectory(workdir)
  source = config.train.init
  if (begun.path / "config.json").is_file() and begun.config().get("train", {}).get("init") == source:
    source = workdir
  source = directory_of(source)
  if not RunDirectory(source).path.is_dir():
    raise UsageError(
      f"no directory {str(source)!r}; init=DIR takes the run directory of a training or an import, or a name of weights"
    )
  other = from_dict(RunDirectory(source).config(), f"{source}/config.json")
  if other.model.name != config.model.name:
    raise UsageError(
      f"invalid config.model.name={config.model.name!r}; expected {other.model.name!r}, the network of init={str(source)!r}"
    )
  # image size and head belong to the task, not to the backbone
  own_head = fields.head_name(config.model) == fields.head_name(other.model)
  own = ("num_classes", *fields.incomplete_head(other.model)) if own_head else TASK_FIELDS
  for name in fields.FIELDS:
    if config.model[name] is None and name not in (*own, *fields.COMPUTE_FIELDS):
      config.model[name] = other.model[name]
  if config.model.padding is None and config.model.head_convention is not None:
    # that of the convention is for new weights
    config.model.padding = fields.architecture(**other.model).padding
  for name in PREPROCESSING:
    if config.data[name] is None:
      config.data[name] = other.data[name]


def initial_variables(config: ConfigDict, job: Job, seeded: Variables, on_message: Callable[[str], None]) -> Variables:
  """Returns the variables before the first step.

  Args:
    config: of the run; config.train.init is a run directory or a name of published weights, "" for none.
    job: of the run.
    seeded: randomly initialized variables; new layers keep them.
    on_message: called with a sentence about what is initialized from where.

  Raises:
    UsageError: naming the first tensor that has another shape there.
  """
  if not config.train.init:
    return seeded
  source = trained.load(directory_of(config.train.init))
  # ranges of fake quantization are found again: not every network has them, and they depend on the images
  new, old = ({name: leaf for name, leaf in flatten(tree).items() if not is_range(name)} for tree in (seeded, source.variables))
  # the same number of different classes needs a new head too
  fitting = rows.fitting(source.job.architecture, job.architecture)
  same_task = fitting is not None
  same_head = same_task and source.classes == job.dataset.classes and source.classes

  def is_new(name: str) -> bool:
    """Tells whether a tensor belongs to a new layer: the logits, or for another task everything after the backbone."""
    return not same_head and "['backbone']" not in name and not in_layers(name, fitting or ())

  kept = {name for name in new if not is_new(name)}
  # for another task, the last layers of the other head are unused
  both = {**new, **old} if same_task else new
  differ = [n for n in both if not is_new(n) and (n not in new or n not in old or new[n].shape != old[n].shape)]
  if differ:
    shapes = [str(tree[differ[0]].shape) if differ[0] in tree else "missing" for tree in (new, old)]
    raise UsageError(
      f"invalid init={str(config.train.init)!r}, the weights of another network: {len(differ)} tensors differ, first "
      f"{differ[0]}, {shapes[0]} here and {shapes[1]} there"
    )
  head = _about_head(job.architecture, fitting, bool(same_head))
  on_message(f"initialized from {config.train.init} ({source.weights} weights of step {source.step:,}), {head}")
  return unflatten(seeded, {**flatten(seeded), **{name: old[name] for name in kept}})


def _about_head(architecture: Architecture, fitting: tuple[str, ...] | None, whole: bool) -> str:
  """Formats which part of a network's head is new.

  Args:
    architecture: the network.
    fitting: result of rows.fitting.
    whole: whether all of its layers have weights.
  """
  if fitting is None:
    return f"backbone only, with a new head: {architecture.head}"
  if whole:
    return "with its head"
  new = [layer.name for layer in architecture.head_layers() if layer.kind != "pool" and layer.name not in fitting]
  # weights that were saved without a head lack more than depends on the classes
  layers = f": {', '.join(new)}" if len(new) > len(rows.per_class(architecture)) else ""
  return f"with a new head of {counted(architecture.num_classes, 'class', 'classes')}{layers}"
