"""The shorter Cityscapes recipe of another port: crops of 1024x512, 80,000 steps.

Command:   mnv3 train --config configs/cityscapes_80k.py --init IMAGENET --workdir DIR --config.data.dir=CITYSCAPES
           IMAGENET is the directory of a run on ImageNet, or of an import (mnv3 import); without --init it is from scratch
Machine:   any number of devices that share 16 crops a step
Expected:  not run here. PaddleSeg reports 72.33 (global pool) and 73.19 (49x49 pool) on val for its LR-ASPP on V3-Large
Source:    PaddleSeg, configs/lraspp: SGD from 0.005, 1,000 steps of warm-up, poly to the power 0.9, weight decay 5e-4, 4 crops
           on each device (their number is not stated there: 4 of them here), ImageNet weights that were distilled

What differs, so that its figures are no promise for this file:
  network    theirs has output stride 8 and takes three maps along; here it is the paper's, with whole channels (RF2 off)
  loss       theirs is of the hardest 130,000 pixels; here it is of all
  colours    theirs are distorted by half; here they are not
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.update({"name": model, "resolution": 1024, "resolution_width": 2048, "output_stride": 16})
  config.model.update({"head": "lr_aspp", "head_filters": 128, "bn_momentum": 0.99, "dtype": "bfloat16"})
  config.data.update({"dataset": "cityscapes", "train_split": "train", "eval_split": "val"})
  config.data.update({"train_size": 512, "train_width": 1024, "augment": "scale(0.5,2.0)+flip"})
  config.optim.update({"name": "sgd", "lr": 0.005, "batch_reference": 16, "momentum": 0.9, "l2": 5e-4, "l2_depthwise": True})
  # 1,000 of 185 steps an epoch
  config.optim.update({"schedule": "poly", "power": 0.9, "warmup": 1000 / 185, "ema": 0.0})
  config.train.update({"batch_size": 16, "steps": 80_000})
  config.evaluate.update({"batch_size": 8, "every": 20.0})
  config.checkpoint.every = 10.0
  return config
