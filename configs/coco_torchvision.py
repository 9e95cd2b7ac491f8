"""torchvision's SSDLite recipe: 660 epochs of COCO, from scratch, with torchvision's anchors and losses.

Command:   mnv3 train --config configs/coco_torchvision.py --workdir DIR --config.data.dir=COCO
           COCO has annotations/instances_train2017.json, instances_val2017.json, and the folders train2017/ and val2017/
Machine:   any number of devices that share 192 images a step (torchvision's: 8 V100 with 24 images each)
Expected:  not run here. At the end AP 21.3 on val2017, published with ssdlite320_mobilenet_v3_large, from epoch 648 and
           "reconfigured", which is not explained. At 1, 5 and 20 % of the steps: not published
Source:    torchvision, references/detection, and pull request 3757: SGD momentum .9, cosine from 0.15 at 8 x 24, warm-up from
           0.001 of it, weight decay 4e-5 of all parameters, batch norm .97/1e-3, random IoU crop and flip, hard negatives 3:1,
           from scratch; the network is the one with half the channels after C4

Where this file differs:
  losses     theirs are divided by the positives of each process, here by those of the whole batch
  images     theirs without boxes are removed beforehand; here they stay in an epoch. Hard negatives are 3 for each positive, so
             they teach nothing, and an epoch has 1 % more steps
  batches    theirs have images of like aspect ratio, here any
  rate       theirs changes once an epoch and counts the first one too, here with every step after it; the warm-up of both is
             the first epoch, theirs but for its last step
  batch norm theirs has the statistics of 24 images, one process's; --config.model.bn_group=24 gives those
  precision  theirs is float32; --config.model.dtype=float32 gives that
  average    none there; 0.9999 costs nothing, and raw weights are evaluated beside it
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks; the halved tail is defined for both sizes of V3 alone."""
  config = base()
  config.model.update({"name": model, "head": "ssdlite", "head_convention": "torchvision"})
  config.model.update({"resolution": 320, "halved_tail": "detection" if model.startswith("mobilenetv3") else None})
  config.model.update({"bn_momentum": 0.97, "bn_epsilon": 1e-3, "dtype": "bfloat16"})
  config.data.update({"dataset": "coco", "train_split": "train2017", "eval_split": "val2017", "augment": "iou_crop+flip"})
  config.optim.update({"name": "sgd", "lr": 0.15, "batch_reference": 192, "momentum": 0.9, "l2": 4e-5, "l2_all": True})
  config.optim.update({"schedule": "cosine", "warmup": 1.0, "warmup_from": 0.001, "ema": 0.9999})
  config.train.update({"batch_size": 192, "epochs": 660.0})
  config.evaluate.update({"batch_size": 100, "every": 20.0})
  config.checkpoint.every = 5.0
  return config
