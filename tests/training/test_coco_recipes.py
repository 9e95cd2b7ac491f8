"""Recipes of COCO: learning rates, weight decay and learning-rate factors as their sources compute them."""

import jax
import numpy as np
import pytest
from conftest import ROOT

from mnv3_jax.architectures import fields, rows
from mnv3_jax.config_overrides import read_config
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.network import network
from mnv3_jax.training.optimizer import decay_mask, schedule


def recipe(name):
  return read_config(str(ROOT / "configs" / name), [])


def rates(config, steps, per_epoch, total):
  rate = schedule(config.optim, batch_size=config.train.batch_size, steps_per_epoch=per_epoch, total_steps=total)
  return np.array([float(rate(step)) for step in steps])


@pytest.mark.parametrize(
  ("name", "begin", "total"),
  [
    ("coco_google.py:mobilenetv3_large", 0.13333, 400_000),
    ("coco_google.py:mobilenetv3_small", 0.13333, 800_000),
    # LinearWarmup of PaddleDetection with start_factor 0.33333, and CosineDecay
    ("coco_paddle.py", 0.4 / 3, 400_000),
  ],
)
def test_a_warm_up_of_2000_steps_from_a_third_of_the_rate(name, begin, total):
  config = recipe(name)
  assert config.train.steps == total
  middle = 2000 + (total - 2000) // 2
  found = rates(config, [0, 1, 1000, 1999, 2000, middle, total], 231, total)
  expected = [begin, begin + (0.4 - begin) / 2000, (begin + 0.4) / 2, 0.4 - (0.4 - begin) / 2000, 0.4, 0.2, 0]
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_torchvisions_rates_up_to_the_step_of_an_epoch():
  config, epoch = recipe("coco_torchvision.py"), 610
  total = 660 * epoch
  # LinearLR with start_factor 1/1000 over the first epoch, CosineAnnealingLR with T_max 660 after each
  n = np.array([1, 2, 100, 330, 659])
  np.testing.assert_allclose(rates(config, [0, epoch // 2], epoch, total), [0.15e-3, 0.15 * 0.5005], rtol=1e-5)
  np.testing.assert_allclose(rates(config, n * epoch, epoch, total), 0.075 * (1 + np.cos(np.pi * n / 660)), atol=4e-4)


def test_what_decays():
  masks = {}
  for name in ("coco_google", "coco_torchvision", "coco_paddle"):
    config = recipe(f"{name}.py")
    # a small one has parameters of each kind
    params = shapes(network(fields.architecture("mobilenetv3_small", head="ssdlite", resolution=96)))["params"]
    mask = jax.tree_util.tree_leaves_with_path(decay_mask(params, config.optim.l2_depthwise, config.optim.l2_all))
    masks[name] = {path[-1].key for path, decays in mask if decays}
    assert config.optim.l2 == 4e-5 and all(decays for path, decays in mask if path[-1].key == "kernel")
  assert masks == {"coco_google": {"kernel"}, "coco_torchvision": {"kernel", "bias", "scale"}, "coco_paddle": {"kernel"}}


@pytest.mark.parametrize(
  ("model", "factors"),
  [
    ("mobilenetv3_large", [0.25] * 7 + [0.5] * 6 + [0.75] * 8 + [1] * 12),
    ("mobilenetv3_small", [0.25] * 7 + [0.5] * 10 + [1] * 12),
    ("mobilenetv2", [1] * 35),
  ],
)
def test_paddles_factors_of_the_learning_rate(model, factors):
  """lr_mult_list 0.25, 0.25, 0.5, 0.5, 0.75: one for each three blocks, the last of the backbone's for the extra layers."""
  config = recipe(f"coco_paddle.py:{model}")
  found = rows.factors(fields.architecture(**config.model), config.optim.lr_groups)
  assert list(found.values()) == factors
  scratch = read_config(str(ROOT / "configs" / f"coco_paddle.py:{model}"), ["--config.optim.lr_groups="])
  assert scratch.optim.lr_groups == ""
