"""A detector on the embedded scenes: SSDLite on MobileNetV3-Small.

Command:   mnv3 train --config configs/scenes_detection.py --workdir DIR
Machine:   two CPU cores, about ten minutes
Expected:  AP 0.444, AP50 0.645 on the 500 test scenes (averaged weights)
Source:    this project's own recipe. The network is that of Table 6's last row: SSDLite with the authors' anchors and losses,
           half the channels between C4 and C5. AdamW in place of the paper's RMSProp, which finds next to nothing in as many
           steps from random weights; with twice the learning rate AdamW does not either
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/scenes_detection.py:mobilenetv3_large` trains another backbone."""
  config = base()
  config.model.update({"name": model, "head": "ssdlite", "halved_tail": "detection"})
  config.model.update({"resolution": 96, "resolution_width": 128})
  # 125 steps an epoch: statistics that follow within a few dozen steps
  config.model.bn_momentum = 0.97
  config.data.update({"dataset": "scenes", "augment": "none"})
  config.optim.update({"name": "adamw", "lr": 2e-3, "batch_reference": 0, "momentum": 0.9, "decay": 0.99, "epsilon": 1e-6})
  config.optim.update({"schedule": "cosine", "warmup": 1.0, "ema": 0.999})
  config.train.update({"batch_size": 32, "epochs": 40.0, "log_every": 125})
  config.evaluate.update({"batch_size": 50, "every": 5.0})
  config.checkpoint.every = 5.0
  return config
