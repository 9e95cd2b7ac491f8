"""Classification: loss and metrics."""

import jax.numpy as jnp
import numpy as np
import pytest

from mnv3_jax.architectures import fields
from mnv3_jax.config import base
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.segmentation import Segmentation


def test_loss_is_smoothed_cross_entropy():
  rng = np.random.default_rng(0)
  logits, label = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
  logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  target = 0.9 * np.eye(4)[label] + 0.1 / 4
  loss = Classification(label_smoothing=0.1).loss(jnp.asarray(logits), {"label": jnp.asarray(label)})
  assert float(loss) == pytest.approx(-(target * logp).sum(1).mean(), rel=1e-5)


def test_sums_are_exact_over_any_batches():
  rng = np.random.default_rng(0)
  logits, label = rng.normal(size=(37, 10)).astype(np.float32), rng.integers(0, 10, 37)
  task = Classification()
  total = {}
  for at in range(0, 40, 8):
    rows = np.arange(at, at + 8)
    mask = (rows < 37).astype(np.float32)
    batch = {"label": jnp.asarray(np.where(rows < 37, label[rows % 37], 0)), "mask": jnp.asarray(mask)}
    # what fills a batch up may hold anything
    filled = np.where(mask[:, None] > 0, logits[rows % 37], np.nan)
    for k, v in task.sums(jnp.asarray(filled), batch).items():
      total[k] = total.get(k, 0.0) + float(v)
  metrics = task.metrics(total)
  order = np.argsort(-logits, 1)
  assert metrics["count"] == 37
  assert metrics["top1"] == pytest.approx((order[:, 0] == label).mean())
  assert metrics["top5"] == pytest.approx((order[:, :5] == label[:, None]).any(1).mean())


def test_a_constant_network_is_right_by_chance_only():
  sums = Classification().sums(jnp.zeros((10, 10)), {"label": jnp.arange(10)})
  assert (float(sums["top1"]), float(sums["top5"])) == (1, 5)


def test_fewer_than_five_classes():
  assert float(Classification().sums(jnp.zeros((3, 3)), {"label": jnp.arange(3)})["top5"]) == 3


@pytest.mark.parametrize("task", [Classification, Segmentation])
def test_a_softmax_over_one_logit_says_nothing(task):
  config = base()
  config.model.num_classes = 1
  with pytest.raises(UsageError, match="num_classes=1; expected at least 2 classes"):
    task.from_config(config, fields.architecture(**config.model), ("cat",))
  with pytest.raises(UsageError, match="weights with one logit"):
    task.configure_import(config, 1)
