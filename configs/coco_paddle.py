"""PaddleDetection's SSDLite recipe, the best published one for these networks: from ImageNet weights, stronger augmentation.

Command:   mnv3 train --config configs/coco_paddle.py:mobilenetv3_large --init IMAGENET --workdir DIR --config.data.dir=COCO
           IMAGENET is the directory of a run on ImageNet, or of an import (mnv3 import); without --init it is from scratch
Machine:   any number of devices that share 512 images a step
Expected:  not run here. At the end AP on val2017 23.3 with V3-Large, 16.2 with V3-Small, from ImageNet weights that were
           distilled (SSLD), which this project does not have. At 1, 5 and 20 % of the steps: not published; issue
           #2333 of PaddleDetection reports 9.4 after 5,000 steps (1.25 %), of settings that may differ
Source:    PaddleDetection, configs/ssd: 400,000 steps of 512 images, SGD momentum .9, cosine from 0.4 to 0, L2 5e-4, colours,
           expansion and crop, suppression above an IoU of .45

Where this file differs, so that its figures are no promise for it:
  anchors    and losses: here those of the authors' configuration, not PaddleDetection's
  classes    theirs are 80 and a background; here 90 and a background, as in the authors' files
  overlap    boxes are suppressed above .6, the authors' value, which is a part of the convention
  warm-up    2,000 steps, as in configs/coco_google.py
  dagger     theirs has all channels, so this one has, too
  average    0.9999 costs nothing, and raw weights are evaluated beside it
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.update({"name": model, "head": "ssdlite", "resolution": 320, "bn_momentum": 0.97, "dtype": "bfloat16"})
  config.data.update({"dataset": "coco", "train_split": "train2017", "eval_split": "val2017"})
  config.data.augment = "photometric+expand(4)+iou_crop+flip"
  config.optim.update({"name": "sgd", "lr": 0.4, "batch_reference": 512, "momentum": 0.9, "l2": 5e-4, "l2_depthwise": True})
  # 2,000 steps of 231 an epoch
  config.optim.update({"schedule": "cosine", "warmup": 2000 / 231, "ema": 0.9999})
  config.train.update({"batch_size": 512, "steps": 400_000})
  config.evaluate.update({"batch_size": 100, "every": 20.0})
  config.checkpoint.every = 5.0
  return config
