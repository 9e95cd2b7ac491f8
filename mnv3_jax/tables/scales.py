"""The scales at which a table can be run, and the commands of its runs."""

import dataclasses
import os
import pathlib
import shlex

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.tables.table import FOLDERS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
  """How rows are trained.

  Attributes:
    name: as on the command line; tables about another figure may have another scale of the same name.
    figure: key of the columns.Figure that its runs reach.
    folder: of its runs.
    config: file of configs/.
    words: what it changes in there.
    paper: the paper's size of images, a size of architectures/sizes.py.
    resolution: the size that stands for it, the config's own; other sizes of rows are scaled with it, to even numbers.
    classes: of its photos.
    seeds: runs of each row, unless told otherwise.
    needs: words that its commands need besides, shown where they are not given.
    comparable: whether it has the paper's data.
    says: what a figure of this scale can tell.
  """

  name: str
  figure: str
  folder: str
  config: str
  words: tuple
  paper: object
  resolution: object
  classes: int
  seeds: int
  needs: tuple
  comparable: bool
  says: str

  def fields(self, row):
    """The fields of a row at this scale, whose classes are those of its photos."""
    height = row.fields.get("resolution", sizes.sides(self.paper)[0])
    own = height, row.fields.get("resolution_width", height)
    pairs = zip(own, sizes.sides(self.resolution), sizes.sides(self.paper), strict=True)
    height, width = (2 * round(n * ours / paper / 2) for n, ours, paper in pairs)
    kept = {name: value for name, value in row.fields.items() if name not in ("resolution_width", "num_classes")}
    return {**kept, "resolution": height, **({} if width == height else {"resolution_width": width})}

  def still_needed(self, words):
    """What its commands need and `words`, overrides, do not say."""
    given = {word.split("=")[0] for word in words}
    return [word for word in self.needs if word.split("=")[0] not in given]

  def architecture(self, row, num_classes=None):
    """The network that this scale trains for a row."""
    return fields.architecture(row.model, **self.fields(row), num_classes=num_classes or self.classes)


# of a figure, the paper's own scale is the first
SCALES = (
  Scale(
    name="imagenet",
    figure="top1",
    folder="imagenet",
    config="imagenet.py",
    words=(),
    paper=224,
    resolution=224,
    classes=1000,
    seeds=1,
    needs=("--config.data.dir=IMAGENET",),
    comparable=True,
    says="the paper's recipe on ImageNet (configs/imagenet.py says what the paper leaves open)",
  ),
  Scale(
    name="mini",
    figure="top1",
    folder="mini",
    config="fashion_mnist.py",
    words=("--config.train.epochs=12",),
    paper=224,
    resolution=32,
    classes=10,
    seeds=3,
    needs=(),
    comparable=False,
    says="a few epochs on 10,000 embedded grey photos at 32 px, tested on 2,000 (one photo is 0.05 points). Such a run can "
    "tell that a network learns; it cannot tell which of two rows is better on ImageNet, nor any difference within the "
    "spread over seeds",
  ),
  Scale(
    name="cityscapes",
    figure="miou",
    folder="cityscapes",
    config="cityscapes.py",
    words=(),
    paper=(1024, 2048),
    resolution=(1024, 2048),
    classes=19,
    seeds=1,
    needs=("--config.data.dir=CITYSCAPES",),
    comparable=True,
    says="from scratch on Cityscapes' fine annotations, tested on the 500 validation images, one scale and no mirror image "
    "(configs/cityscapes.py says what the paper leaves open)",
  ),
  Scale(
    name="mini",
    figure="miou",
    folder="mini_scenes",
    config="scenes_segmentation.py",
    words=("--config.train.epochs=3",),
    paper=(1024, 2048),
    resolution=(80, 112),
    classes=11,
    seeds=2,
    needs=(),
    comparable=False,
    says="a few epochs on scenes of 80x112 px composed from the embedded photos, ten classes and a background, tested on 500. "
    "Such a run can tell that a network learns; it cannot tell which of two rows is better on Cityscapes, nor any difference "
    "within the spread over seeds. The map before the head is 5x7, at output stride 32 3x4, smaller than any kernel: all pools "
    "are global here, and R-ASPP, which has no map at stride 8, has logits of 5x7 px only",
  ),
)
NAMES = tuple(dict.fromkeys(scale.name for scale in SCALES))


def has(name, figure):
  """Whether tables about a columns.Figure have a scale of this name."""
  return name is None or any(scale.name == name for scale in SCALES if scale.figure == figure.key)


def of(name, figure):
  """The Scale of a name for tables about a columns.Figure; None: the paper's own.

  Raises:
    UsageError: where these have no such scale.
  """
  known = {scale.name: scale for scale in SCALES if scale.figure == figure.key}
  if name is None:
    return next(iter(known.values()))
  if name not in known:
    there = " or ".join(known) if name in NAMES else nearest(name, NAMES)
    raise UsageError(f"no scale {name!r} for tables about {figure.called}; {there}")
  return known[name]


def config_file(scale):
  """The scale's config, from where one stands or in the checkout."""
  files = [folder.parent / "configs" / scale.config for folder in FOLDERS]
  return next((file for file in files if file.is_file()), files[0])


# fields of config.model that say how a network is trained: all others are what rows differ in
TRAINED = ("bn_group", "bn_momentum", "bn_epsilon", "dropout", "dtype")


def check(scale, words):
  """The config of a scale's runs with overrides of all of them.

  Args:
    scale: a Scale.
    words: "--config.SECTION.FIELD=VALUE".

  Raises:
    UsageError: for a field that there is not, or one that the runs of a table differ in.
  """
  # reads configs, which tables that are only shown do not
  from mnv3_jax.config import read_config

  for word in words:
    field = word.removeprefix("--config.").split("=")[0]
    if field == "train.seed" or (field.startswith("model.") and field.removeprefix("model.") in ("name", *fields.FIELDS)):
      if field.removeprefix("model.") not in TRAINED:
        raise UsageError(f"--config.{field} is what the runs of a table differ in; it cannot be set for all of them")
  return read_config(f"{config_file(scale)}:mobilenetv3_large", [*scale.words, *words])


def check_all(chosen, words):
  """`check` of several scales.

  Args:
    chosen: Scales.
    words: overrides of all their runs.

  Returns:
    {Scale: config}.

  Raises:
    UsageError: as `check` does, and for the place of one scale's photos, given to runs of another scale too.
  """
  chosen = list(dict.fromkeys(chosen))
  for word in words:
    field = word.split("=")[0]
    wanted = [scale.name for scale in chosen if any(need.split("=")[0] == field for need in scale.needs)]
    if len(wanted) > 1:
      raise UsageError(f"{field} would be that of {' and of '.join(wanted)}; --scale {wanted[0]} has the runs of one alone")
  return {scale: check(scale, words) for scale in chosen}


def directory(runs, scale, row, seed):
  """Of a row's run."""
  return pathlib.Path(runs) / scale.folder / row.key / f"seed_{seed}"


def commands(runs, scale, rows, seed, words=()):
  """The command lines of one run: training, then the 8-bit files that rows want.

  Args:
    runs: the folder of all runs.
    scale: a Scale.
    rows: Rows with the same key.
    seed: of the run.
    words: overrides for every run, "--config.data.dir=...".

  Returns:
    a list of (words of the command, file that it leaves).
  """
  row, where = rows[0], directory(runs, scale, rows[0], seed)
  # a config has its own resolution: what stands in every command would be read in none
  own = dict(zip(("resolution", "resolution_width"), sizes.sides(scale.resolution), strict=True))
  wanted = scale.fields(row)
  if all(wanted.get(name, wanted["resolution"]) == value for name, value in own.items()):
    wanted = {name: value for name, value in wanted.items() if name not in own}
  changed = {name: value for name, value in wanted.items() if name in row.fields}
  train = ["mnv3", "train", "--config", f"{config_file(scale)}:{row.model}", "--workdir", str(where), *scale.words]
  train += [f"--config.model.{field}={value}" for field, value in changed.items()]
  train += [f"--config.train.seed={seed}"] if seed else []
  found = [((*train, *words), where / "result.json")]
  for kind in dict.fromkeys(row.kind for row in rows if row.kind != "none"):
    out = where / "export" / f"{kind}.tflite"
    found.append(
      (("mnv3", "export", "--workdir", str(where), "--quantize", kind, "--out", str(out)), accuracy_file(where, kind))
    )
  return found


def accuracy_file(run, kind):
  """Where the accuracy of a run stands: of the network itself, or of its 8-bit file."""
  return run / "result.json" if kind == "none" else run / "export" / f"{kind}.tflite.json"


def spelt(words):
  """A command line that can be copied."""
  return shlex.join(os.path.relpath(word) if word.startswith(os.getcwd() + os.sep) else word for word in words)
