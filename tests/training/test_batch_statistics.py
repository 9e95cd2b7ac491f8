"""Batch norm over a single value is refused before training; what has two values, or uses fixed statistics, is not."""

import jax
import jax.numpy as jnp
import pytest

from mnv3_jax.config import base
from mnv3_jax.errors import UsageError
from mnv3_jax.models.layers import BatchNorm
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import batch_statistics
from mnv3_jax.training.run import train, with_classes

# maps of 1x1 px at 32 px, and of 2x1 at 48x32
SMALL = {"model.name": "mobilenetv3_small", "model.width": 0.25, "model.resolution": 32, "train.batch_size": 1}
SEGMENTER = {
  **SMALL,
  "data.dataset": "scenes",
  "data.augment": "none",
  "model.head": "lr_aspp",
}


def refusal(**changes):
  """The sentence with which a config is refused; None for one that is not."""
  config = base()
  config.update_from_flattened_dict({"data.train_split": "train[:16]", "data.eval_split": "test[:8]", **changes})
  config = with_classes(config)
  try:
    batch_statistics.check_batch_statistics(config, jobs.from_config(config))
  except UsageError as error:
    return str(error)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({}, "config.train.batch_size of at least 2, or a larger config.model.resolution"),
    ({"train.batch_size": 4, "train.accumulate": 4}, "at least 8, or config.train.accumulate below 4, or a larger"),
    ({"train.batch_size": 4, "model.bn_group": 1}, "expected config.model.bn_group=0, or a larger"),
    ({"model.resolution": 16, "model.resolution_width": 32}, "at 16x32 px batch norm of block_09/depthwise"),
    ({"optim.lr_groups": "stem=0"}, "block_09/depthwise has one image of 1x1 px"),
  ],
)
def test_a_single_value_is_refused(changes, words):
  sentence = refusal(**{**SMALL, **changes})
  assert "invalid config.train.batch_size=" in sentence and words in sentence


@pytest.mark.parametrize(
  "changes",
  [
    {"train.batch_size": 2},
    {"train.batch_size": 4, "train.accumulate": 2},
    {"model.resolution": 48},
    {"model.resolution": 32, "model.resolution_width": 33},
    {"train.batch_size": 4, "model.bn_group": 2},
    {"optim.lr_groups": "backbone=0"},
  ],
)
def test_two_values_are_enough(changes):
  assert refusal(**{**SMALL, **changes}) is None


def test_a_head_without_batch_norm_over_its_pool():
  assert refusal(**{**SEGMENTER, "model.resolution": 64}) is None


def test_nothing_is_written(tmp_path):
  config = base()
  config.update_from_flattened_dict(
    {**SMALL, "data.train_split": "train[:16]", "data.eval_split": "test[:8]", "train.steps": 1}
  )
  with pytest.raises(UsageError, match="single value per channel"):
    train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_the_layer_refuses_it_too():
  layer, x = BatchNorm(0.9, 1e-3, "linear", 0, "plain"), jnp.ones((1, 1, 1, 4))
  variables = layer.init(jax.random.key(0), x, True)
  with pytest.raises(ValueError, match="a single value per channel"):
    layer.apply(variables, x, True, mutable=["batch_stats"])
  # evaluation has its statistics
  assert layer.apply(variables, x, False).shape == x.shape
