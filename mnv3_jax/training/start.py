"""Where a run starts: seeded variables, or what another run or an import has learnt, with a new head for other classes."""

from mnv3_jax.architectures import fields
from mnv3_jax.config import from_dict
from mnv3_jax.errors import UsageError
from mnv3_jax.models.fake_quantization import is_range
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.training import trained
from mnv3_jax.training.checkpoints import flatten, unflatten

# how a network wants to see photos goes with its weights
VIEW = ("mean", "std", "crop", "interpolation")
# fields of config.model that are another task's own
OF_TASK = ("num_classes", "resolution", "resolution_width", "dropout", *(n for n in fields.FIELDS if n.startswith("segmenter")))
# rows whose width is the number of classes
LOGITS = ("logits", "skip_logits")


def inherit(config, workdir):
  """Gives a config what it leaves open from config.train.init: the network's fields (but the classes) and its view of photos.

  A run that was begun before has all of it in its own config.json; then the other directory is not needed any more.

  Raises:
    UsageError: if config.train.init is not the directory of a run, or of another network than config.model.name.
  """
  begun = RunDirectory(workdir)
  source = config.train.init
  if (begun.path / "config.json").is_file() and begun.config().get("train", {}).get("init") == source:
    source = workdir
  if not RunDirectory(source).path.is_dir():
    raise UsageError(f"no directory {str(source)!r}; --init names what import has made, or a run")
  other = from_dict(RunDirectory(source).config(), f"{source}/config.json")
  if other.model.name != config.model.name:
    raise UsageError(
      f"config.model.name = {config.model.name!r}, but {str(source)!r} holds a {other.model.name}; "
      f"--config.model.name={other.model.name} trains that"
    )
  # a backbone that goes from one task to another has its own size of image there, and its own head
  of_task = ("num_classes",) if config.model.segmenter == other.model.segmenter else OF_TASK
  for name in fields.FIELDS:
    if config.model[name] is None and name not in (*of_task, *fields.COMPUTE_FIELDS):
      config.model[name] = other.model[name]
  for name in VIEW:
    if config.data[name] is None:
      config.data[name] = other.data[name]


def variables(config, job, seeded, say):
  """The variables before the first step.

  Args:
    config: of the run; config.train.init is the directory to start from, "" for none.
    job: of the run.
    seeded: its seeded variables; what is new keeps them.
    say: hears what is taken from where.

  Raises:
    UsageError: naming the first tensor that has another shape there.
  """
  if not config.train.init:
    return seeded
  source = trained.load(config.train.init)
  # ranges of fake quantization are found anew: a network has them or not, and they are those of other photos
  new, old = ({name: leaf for name, leaf in flatten(tree).items() if not is_range(name)} for tree in (seeded, source.variables))
  # the same number of other classes is another head too
  same_task = source.job.architecture.segmenter == job.architecture.segmenter
  same_head = same_task and source.classes == job.dataset.classes and source.classes

  def goes(name):
    """Whether a tensor belongs to what is new: the logits, or of another task all that comes after the backbone."""
    return not same_head and (any(f"['{row}']" in name for row in LOGITS) if same_task else "['backbone']" not in name)

  kept = {name for name in new if not goes(name)}
  # of another task, what the classifier's last rows had is left behind
  both = {**new, **old} if same_task else new
  differ = [n for n in both if not goes(n) and (n not in new or n not in old or new[n].shape != old[n].shape)]
  if differ:
    shapes = [str(tree[differ[0]].shape) if differ[0] in tree else "missing" for tree in (new, old)]
    raise UsageError(
      f"{str(config.train.init)!r} holds another network than this config: {len(differ)} tensors differ, first {differ[0]}, "
      f"{shapes[0]} here and {shapes[1]} there"
    )
  head = "its head too" if same_head else f"a new head of {job.architecture.num_classes} classes"
  head = head if same_task else f"its backbone, and a new head: {_head(job.architecture)}"
  say(f"starts from {config.train.init} ({source.weights} weights of step {source.step:,}), {head}")
  return unflatten(seeded, {**flatten(seeded), **{name: old[name] for name in kept}})


def _head(architecture):
  s = architecture.segmenter
  return f"{s.head} of {s.filters} filters" if s else "a classifier's"
