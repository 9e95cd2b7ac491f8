"""Scales of training: the paper's data sets, and small stand-ins of which a table takes minutes."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from mnv3_jax import resources
from mnv3_jax.architectures import fields, sizes
from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.tables.columns import MetricColumn
from mnv3_jax.tables.table import FieldValue, Row
from mnv3_jax.types import Size

# config overrides: values by field, {"train.epochs": 2.0}, or words, ("--config.train.epochs=2.0",)
Overrides: TypeAlias = Mapping[str, object] | Sequence[str]


def override_words(overrides: Overrides) -> list[str]:
  """Returns overrides as words of the command line."""
  if not isinstance(overrides, Mapping):
    return list(overrides)
  return [f"--config.{field}={value}" for field, value in overrides.items()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
  """Settings with which all rows of a table are trained.

  Attributes:
    name: name, which scales of several metrics share.
    metric: metric of the tables that have this scale.
    folder: directory of its runs.
    config: file in configs/.
    overrides: changes of that config, "--config.SECTION.FIELD=VALUE".
    paper_resolution: the paper's usual input size.
    resolution: input size that replaces it, that of the config; other sizes of rows scale with it, rounded to even numbers.
    num_classes: number of classes of the data set.
    seeds: default number of runs of each row.
    required: overrides that a run needs besides, shown where they are not given.
    comparable: whether it has the paper's data set.
    description: training in a sentence, and the conclusions that it allows.
  """

  name: str
  metric: str
  folder: str
  config: str
  overrides: tuple[str, ...]
  paper_resolution: Size
  resolution: Size
  num_classes: int
  seeds: int
  required: tuple[str, ...]
  comparable: bool
  description: str

  def fields(self, row: Row) -> dict[str, FieldValue]:
    """Returns the fields of config.model for a row at this scale, whose number of classes is that of the data set."""
    own: list[Any] = [row.fields.get("resolution", sizes.sides(self.paper_resolution)[0])]
    own.append(row.fields.get("resolution_width", own[0]))
    pairs = zip(own, sizes.sides(self.resolution), sizes.sides(self.paper_resolution), strict=True)
    height, width = (2 * round(n * ours / paper / 2) for n, ours, paper in pairs)
    kept = {name: value for name, value in row.fields.items() if name not in ("resolution_width", "num_classes")}
    return {**kept, "resolution": height, **({} if width == height else {"resolution_width": width})}

  def still_needed(self, overrides: Iterable[str]) -> list[str]:
    """Returns the required overrides whose fields `overrides` do not set."""
    given = {word.split("=")[0] for word in overrides}
    return [word for word in self.required if word.split("=")[0] not in given]

  def architecture(self, row: Row, num_classes: int | None = None) -> Architecture:
    """Builds the network that this scale trains for a row; raises UsageError for a row that the paper has alone."""
    if row.model is None:
      raise UsageError(f"row {row.name!r} has no network of ours")
    return fields.architecture(row.model, **self.fields(row), num_classes=num_classes or self.num_classes)


# the paper's own scale is the first of each metric
SCALES = (
  Scale(
    name="imagenet",
    metric="top1",
    folder="imagenet",
    config="imagenet.py",
    overrides=(),
    paper_resolution=224,
    resolution=224,
    num_classes=1000,
    seeds=1,
    required=("--config.data.dir=IMAGENET",),
    comparable=True,
    description="the paper's recipe on ImageNet (configs/imagenet.py lists what the paper leaves open)",
  ),
  Scale(
    name="mini",
    metric="top1",
    folder="mini_poses",
    config="poses.py",
    overrides=("--config.train.epochs=12",),
    paper_resolution=224,
    resolution=32,
    num_classes=10,
    seeds=3,
    required=(),
    comparable=False,
    description="12 epochs on the embedded grayscale images in random poses at 32 px, tested on 16,000. Such a run "
    "shows which of two networks learns more of this data in as many steps, where they differ by more than seeds do; it does "
    "not show which is better on ImageNet",
  ),
  Scale(
    name="photos",
    metric="top1",
    folder="mini",
    config="fashion_mnist.py",
    overrides=("--config.train.epochs=12",),
    paper_resolution=224,
    resolution=32,
    num_classes=10,
    seeds=3,
    required=(),
    comparable=False,
    description="a few epochs on 10,000 embedded grayscale images at 32 px, tested on 2,000 (one image is 0.05 points). Such a "
    "run shows that a network trains; it does not show which of two rows is better on ImageNet, nor any difference within the "
    "spread over seeds",
  ),
  Scale(
    name="cityscapes",
    metric="miou",
    folder="cityscapes",
    config="cityscapes.py",
    overrides=(),
    paper_resolution=(1024, 2048),
    resolution=(1024, 2048),
    num_classes=19,
    seeds=1,
    required=("--config.data.dir=CITYSCAPES",),
    comparable=True,
    description="from scratch on the fine annotations of Cityscapes, tested on the 500 validation images, single-scale and "
    "without flipping (configs/cityscapes.py lists what the paper leaves open)",
  ),
  Scale(
    name="mini",
    metric="miou",
    folder="mini_scenes",
    config="scenes_segmentation.py",
    overrides=("--config.train.epochs=3",),
    paper_resolution=(1024, 2048),
    resolution=(80, 112),
    num_classes=11,
    seeds=2,
    required=(),
    comparable=False,
    description="a few epochs on scenes of 80x112 px composed from the embedded images, ten classes and a background, tested "
    "on 500. Such a run shows that a network trains; it does not show which of two rows is better on Cityscapes, nor any "
    "difference within the spread over seeds. The feature map before the head is 5x7, at output stride 32 3x4, smaller than "
    "any kernel: all pools are global here, and R-ASPP, which has no map at stride 8, has logits of 5x7 px only",
  ),
  Scale(
    name="coco",
    metric="ap",
    folder="coco",
    config="coco_google.py",
    overrides=(),
    paper_resolution=320,
    resolution=320,
    num_classes=90,
    seeds=1,
    required=("--config.data.dir=COCO",),
    comparable=True,
    description="from scratch on train2017 of COCO, tested on the 5,000 images of val2017 (the paper: a test set whose "
    "annotations are not public; configs/coco_google.py has what is known of the authors' training)",
  ),
  Scale(
    name="mini",
    metric="ap",
    folder="mini_detection",
    config="scenes_detection.py",
    overrides=("--config.train.epochs=12",),
    paper_resolution=320,
    resolution=(96, 128),
    num_classes=10,
    seeds=2,
    required=(),
    comparable=False,
    description="a few epochs on scenes of 96x128 px composed from the embedded images, ten classes of items, tested on 500. "
    "Such a run shows that a detector trains and finds boxes; it does not show which of two rows is better on COCO, nor any "
    "difference within the spread over seeds. C4 has 6x8 cells here and the last maps one: what COCO's small objects ask of a "
    "detector does not appear, and a few epochs favour rows that learn fast over those that become better",
  ),
)
NAMES = tuple(dict.fromkeys(scale.name for scale in SCALES))


def has_scale(name: str | None, metric: MetricColumn) -> bool:
  """Returns whether tables about a metric have a scale of this name; None is the paper's, which all have."""
  return name is None or any(scale.name == name for scale in SCALES if scale.metric == metric.metric)


def get_scale(name: str | None, metric: MetricColumn) -> Scale:
  """Returns the scale of a name for tables about a metric; None is the paper's.

  Raises:
    UsageError: where these tables have no such scale.
  """
  known = {scale.name: scale for scale in SCALES if scale.metric == metric.metric}
  if name is None:
    return next(iter(known.values()))
  if name not in known:
    expected = f"expected {' or '.join(known)}" if name in NAMES else nearest(name, NAMES)
    raise UsageError(f"invalid scale={name!r} for tables about {metric.label}; {expected}")
  return known[name]


def config_file(scale: Scale) -> pathlib.Path:
  """Returns the scale's config file, in the working directory or as installed."""
  here = pathlib.Path("configs") / scale.config
  return here if here.is_file() else resources.folder("configs") / scale.config


# fields of config.model that belong to training: rows differ in all others
TRAINING_FIELDS = ("bn_group", "bn_momentum", "bn_epsilon", "dropout", "dtype")


def check(scale: Scale, overrides: Sequence[str]) -> ConfigDict:
  """Checks overrides for all runs of a scale.

  Args:
    scale: the scale.
    overrides: "--config.SECTION.FIELD=VALUE".

  Returns:
    The config of the runs, without the rows' own fields.

  Raises:
    UsageError: for an unknown field, or one that the runs of a table differ in.
  """
  # imports the recipes' dependencies, which tables that are only shown do not need
  from mnv3_jax.config_overrides import read_config

  for word in overrides:
    field = word.removeprefix("--config.").split("=")[0]
    name = field.removeprefix("model.")
    of_a_row = field.startswith("model.") and name in ("name", *fields.FIELDS) and name not in TRAINING_FIELDS
    if field == "train.seed" or of_a_row:
      raise UsageError(f"--config.{field} differs between the runs of a table; it cannot be set for all of them")
  return read_config(f"{config_file(scale)}:mobilenetv3_large", [*scale.overrides, *overrides])


def check_all(scales: Iterable[Scale], overrides: Sequence[str]) -> dict[Scale, ConfigDict]:
  """Checks overrides for all runs of several scales.

  Args:
    scales: the scales.
    overrides: "--config.SECTION.FIELD=VALUE".

  Returns:
    The config of each scale's runs, without the rows' own fields.

  Raises:
    UsageError: as `check`, and for one data directory given to runs on several data sets.
  """
  scales = list(dict.fromkeys(scales))
  for word in overrides:
    field = word.split("=")[0]
    wanted = [scale.name for scale in scales if any(need.split("=")[0] == field for need in scale.required)]
    if len(wanted) > 1:
      raise UsageError(f"{field} would be used by {' and by '.join(wanted)}; expected one scale, such as {wanted[0]}")
  return {scale: check(scale, overrides) for scale in scales}
