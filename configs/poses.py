"""Classification of the embedded images in random poses: the scale mini of tables.

Command:   mnv3 train --config configs/poses.py --workdir DIR
Machine:   one CPU core, one minute; V3-Large two to four
Expected:  0.81 top-1 on the 16,000 test examples (averaged weights); V3-Large 0.83
Source:    this project's own recipe, that of configs/fashion_mnist.py for fewer epochs: every one has other poses
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/poses.py:mobilenetv3_large` trains another network."""
  config = base()
  config.model.update({"name": model, "resolution": 32})
  # 156 steps an epoch: statistics that follow within a few dozen steps
  config.model.bn_momentum = 0.97
  config.data.update({"dataset": "poses", "augment": "none"})
  config.optim.update({"lr": 2e-4, "batch_reference": 0, "epsilon": 1e-6, "schedule": "cosine", "warmup": 1.0, "ema": 0.999})
  config.train.update({"batch_size": 64, "epochs": 12.0, "log_every": 156})
  config.evaluate.every = 12.0
  config.checkpoint.every = 12.0
  return config
