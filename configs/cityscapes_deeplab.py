"""DeepLab's Cityscapes recipe on a backbone that was trained on ImageNet.

Command:   mnv3 train --config configs/cityscapes_deeplab.py --init IMAGENET --workdir DIR --config.data.dir=CITYSCAPES
           IMAGENET is the directory of a run on ImageNet, or of an import (mnv3 import)
Machine:   any number of devices that share 16 crops a step; DeepLab's authors used 8 to 32 cores of a TPU or GPUs
Expected:  not run here. The authors' release: 70.71 on val for V2 at output stride 16, first trained on ImageNet and COCO
Source:    DeepLabv3 (arXiv 1706.05587) and DeepLab's code: 90,000 steps, poly schedule with power 0.9, crops of 769, batch 16,
           whole photos in evaluation, momentum 0.9, weight decay 4e-5, scales 0.5 to 2 in steps of 0.25

As configs/cityscapes.py, but:
  head       R-ASPP with 256 filters and whole channels: MobileNetV2's first row of Table 7
  rate       0.007 of DeepLabv3; a tenth of it for the backbone is usual elsewhere (--config.optim.lr_groups=backbone=0.1)
  batch norm learns: it has to be seen by at least 16 images (--config.model.bn_group=-1 over all devices)
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv2"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.update({"name": model, "resolution": 1024, "resolution_width": 2048, "output_stride": 16})
  config.model.update({"head": "r_aspp", "head_filters": 256, "bn_momentum": 0.9997, "bn_group": -1})
  config.model.dtype = "bfloat16"
  config.data.update({"dataset": "cityscapes", "train_split": "train", "eval_split": "val"})
  config.data.update({"train_size": 769, "augment": "scale(0.5,2.0)+flip"})
  config.optim.update({"name": "sgd", "lr": 0.007, "batch_reference": 16, "momentum": 0.9, "l2": 4e-5})
  config.optim.update({"schedule": "poly", "power": 0.9, "ema": 0.0})
  config.train.update({"batch_size": 16, "steps": 90_000})
  config.evaluate.update({"batch_size": 8, "every": 20.0})
  config.checkpoint.every = 10.0
  return config
