"""Settings of the data sets of embedded scenes."""

from collections.abc import Sequence
from typing import Any, TypeVar

from ml_collections import ConfigDict

from mnv3_jax.architectures import sizes
from mnv3_jax.data.pipelines.scene_dataset import SceneDataset
from mnv3_jax.data.settings import check_batch_size
from mnv3_jax.data.sources import scenes
from mnv3_jax.data.sources.scenes import Composition, Scenes
from mnv3_jax.errors import UsageError

S = TypeVar("S", bound=SceneDataset)


def scene_splits(
  data: ConfigDict, shared: dict[str, Any], classes: Sequence[str], composition: Composition = scenes.SEVERAL
) -> tuple[Scenes, Scenes]:
  """Returns the training and the evaluation scenes of a config.

  Args:
    data: section of the config.
    shared: settings.shared_settings; "augment" is taken out.
    classes: classes of the labels.
    composition: composition of the scenes.

  Raises:
    UsageError: for a setting that scenes do not have, and for an unknown split.
  """
  size, augment = sizes.sides(shared["resolution"]), shared.pop("augment")
  for field in ("dir", "train_size", "train_width"):
    if data[field]:
      raise UsageError(
        f"invalid config.data.{field}={data[field]!r} for scenes, which are made at the network's resolution; it is a setting "
        "of images in files"
      )
  if min(size) < scenes.MIN_SIDE:
    raise UsageError(f"invalid resolution={shared['resolution']!r}; scenes have sides of at least {scenes.MIN_SIDE} px")
  if augment != "none":
    raise UsageError(f"invalid config.data.augment={augment!r} for scenes; expected 'none': every epoch has new scenes")
  if data.classes and tuple(data.classes) != tuple(classes):
    raise UsageError(f"invalid config.data.classes for scenes; leave it empty: {', '.join(classes)}")
  train, test = (Scenes(split, size, composition=composition) for split in (data.train_split, data.eval_split))
  return train, test


def checked(dataset: S) -> S:
  """Returns the data set; raises UsageError for splits that are invalid or empty, or a batch larger than an epoch."""
  check_batch_size(dataset.batch_size, len(dataset.train), "scenes of an epoch")
  # parses the split now
  _ = dataset.test.numbers
  return dataset
