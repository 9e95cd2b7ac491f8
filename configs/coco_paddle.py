"""PaddleDetection's SSDLite recipe, the best published one for these networks: from ImageNet weights, stronger augmentation.

Command:   mnv3 train --config configs/coco_paddle.py:mobilenetv3_large --init IMAGENET --workdir DIR --config.data.dir=COCO
           IMAGENET is the directory of a run on ImageNet, or of an import (mnv3 import). From scratch: without --init, and with
           --config.optim.lr_groups=
Machine:   any number of devices that share 512 images a step (PaddleDetection's: 8 GPUs with 64 each)
Expected:  not run here. At the end AP on val2017 23.3 with V3-Large, 16.2 with V3-Small, from ImageNet weights that were
           distilled (SSLD), which this project does not have. At 1, 5 and 20 % of the steps: not published
Source:    PaddleDetection, static/docs/MODEL_ZOO.md and configs/ssd: 400,000 steps of 512 images, SGD momentum .9, cosine from
           0.4 to 0, 2,000 steps of warm-up from a third of it, L2 4e-5 of kernels (their regularizer of 5e-4 gives way to that
           of each layer), batch norm .9, the learning rate of the backbone times .25 to .75, softmax with hard negatives 3:1,
           colours, expansion up to 4, crop of an IoU with a box, flip

Where this file differs, so that its figures are no promise for it:
  anchors    torchvision's, whose losses and scores are theirs too. Theirs are 4 for each cell of the first map, of a tenth of
             the image, then 6 of .2, .38, .56, .74 and .92, with corners clipped to the image
  classes    theirs are 80 and a background; here 90 and a background, as COCO's ids are
  channels   here all: --init takes no weights of other shapes. Theirs are half after C4 with V3-Small; whether they were with
             V3-Large, of which there are files of both kinds, is not verified
  network    their extra depthwise convolutions double the channels, and their logits and codes have no bias
  batch norm their epsilon is 1e-5, here that of IMAGENET; its statistics are those of 64 images: --config.model.bn_group=64
  input      normalized as for IMAGENET; theirs is by ImageNet's mean and deviation
  colours    here the order of the channels changes, too, and the hue by .05 of a turn in place of .07
  crop       theirs tries every threshold and never chooses to keep the image, here one time in seven; its sides are drawn by
             area and aspect ratio, here each by itself
  overlap    theirs suppresses boxes above .45 and leaves out scores below .01, here .55 and .001, torchvision's
  precision  theirs is float32; --config.model.dtype=float32 gives that
  average    none there; 0.9999 costs nothing, and raw weights are evaluated beside it
"""

from mnv3_jax.config import base

# learning rate of the weights that were distilled, and of the extra layers; that of the predictors is 1
LR_GROUPS = {
  "mobilenetv3_large": "stem=0.25,block_*=0.5,block_0[1-6]=0.25,block_1[3-5]=0.75,features=0.75,extra_*=0.75",
  "mobilenetv3_small": "stem=0.25,block_*=0.5,block_0[1-6]=0.25,features=0.5,extra_*=0.5",
}


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks; other ones than V3 have one learning rate."""
  config = base()
  config.model.update({"name": model, "head": "ssdlite", "head_convention": "torchvision"})
  config.model.update({"resolution": 320, "bn_momentum": 0.9, "dtype": "bfloat16"})
  config.data.update({"dataset": "coco", "train_split": "train2017", "eval_split": "val2017"})
  config.data.augment = "photometric+expand(4)+iou_crop+flip"
  config.optim.update({"name": "sgd", "lr": 0.4, "batch_reference": 512, "momentum": 0.9, "l2": 4e-5, "l2_depthwise": True})
  # 2,000 steps of 231 an epoch
  config.optim.update({"schedule": "cosine", "warmup": 2000 / 231, "warmup_from": 1 / 3, "ema": 0.9999})
  config.optim.lr_groups = LR_GROUPS.get(model, "")
  config.train.update({"batch_size": 512, "steps": 400_000})
  config.evaluate.update({"batch_size": 100, "every": 20.0})
  config.checkpoint.every = 5.0
  return config
