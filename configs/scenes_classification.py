"""Classification of embedded scenes: one item of any size and color on a texture.

Command:   mnv3 train --config configs/scenes_classification.py --workdir DIR
Machine:   one CPU core, about five minutes
Expected:  0.67 top-1 on the 4,000 test scenes (averaged weights); V3-Large 0.70 to 0.73 over three seeds
Source:    this project's own recipe. AdamW in place of the paper's RMSProp, which learns less in as many steps
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/scenes_classification.py:mobilenetv3_large` trains another network."""
  config = base()
  config.model.update({"name": model, "resolution": 48})
  # 156 steps an epoch: statistics that follow within a few dozen steps
  config.model.bn_momentum = 0.97
  config.data.update({"dataset": "scenes", "augment": "none"})
  config.optim.update({"name": "adamw", "lr": 4e-3, "batch_reference": 0, "momentum": 0.9, "decay": 0.99, "epsilon": 1e-6})
  config.optim.update({"schedule": "cosine", "warmup": 0.5, "ema": 0.99})
  config.train.update({"batch_size": 64, "epochs": 6.4, "log_every": 156})
  config.evaluate.every = 6.4
  config.checkpoint.every = 6.4
  return config
