"""A segmenter on the embedded scenes: LR-ASPP on MobileNetV3-Small.

Command:   mnv3 train --config configs/scenes_segmentation.py --workdir DIR
Machine:   two CPU cores, 9 to 10 minutes
Expected:  0.62 mIoU (averaged weights) on the 500 test scenes, 0.64 over each and its mirror image
Source:    this project's own recipe. The network is that of Table 7's last row: LR-ASPP with 128 filters, output stride 16,
           half the channels at the end. RMSProp is the paper's, adaptive from the first step on as in configs/fashion_mnist.py
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/scenes_segmentation.py:mobilenetv3_large` trains another backbone."""
  config = base()
  config.model.update({"name": model, "head": "lr_aspp", "head_filters": 128})
  config.model.update({"resolution": 80, "resolution_width": 112, "output_stride": 16, "halved_tail": "segmentation"})
  # 250 steps an epoch: statistics that follow within a few dozen steps
  config.model.bn_momentum = 0.97
  config.data.update({"dataset": "scenes", "augment": "none"})
  config.optim.update({"lr": 1e-3, "batch_reference": 0, "epsilon": 1e-6, "schedule": "cosine", "warmup": 0.2, "ema": 0.999})
  config.train.update({"batch_size": 16, "epochs": 27.0, "log_every": 125})
  config.evaluate.update({"batch_size": 50, "every": 3.0})
  config.checkpoint.every = 3.0
  return config
