"""The paper's Cityscapes protocol: from scratch, fine annotations alone, one scale.

Command:   mnv3 train --config configs/cityscapes.py:mobilenetv3_large --workdir DIR --config.data.dir=CITYSCAPES
           CITYSCAPES has leftImg8bit/ and gtFine/, as they come from cityscapes-dataset.com, or is TFDS's folder
Machine:   any number of devices that share 16 crops a step; the paper names none
Expected:  not run here. The paper's mIoU on val (Table 7): V3-Large 72.36, V3-Small 68.38 (this file's heads), V2 0.5 68.57.
           The authors' later release: 72.41 and 68.99, from scratch, evaluated at output stride 32
Source:    section 6.4 of arXiv 1905.02244: "same training protocol as" DeepLabv3 and MobileNetV2, from scratch without
           ImageNet, LR-ASPP with 128 filters on a backbone whose last blocks have half their channels (RF2), output stride 16

What is not published for these networks, and what is chosen here:
  steps      90,000, as DeepLabv3 on Cityscapes; from scratch more may be needed
  batch      16 crops of 769, as DeepLabv3
  rate       0.01 with the poly schedule, power 0.9, momentum 0.9: what DeepLab's authors name for Cityscapes, for a network
             that was trained on ImageNet before
  L2         4e-5 on kernels but depthwise ones, as in DeepLab's code for MobileNets
  batch norm 0.997 in the backbone, as there; its head has 0.9997, here it has the backbone's
  crops      scaled by 0.5 to 2 in steps of 0.25, flipped
  average    none is mentioned; 0.9999 costs nothing, and raw weights are evaluated beside it
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.update({"name": model, "resolution": 1024, "resolution_width": 2048, "output_stride": 16})
  config.model.update({"halved_tail": "segmentation", "head": "lr_aspp", "head_filters": 128})
  config.model.update({"bn_momentum": 0.997, "dtype": "bfloat16"})
  config.data.update({"dataset": "cityscapes", "train_split": "train", "eval_split": "val"})
  config.data.update({"train_size": 769, "augment": "scale(0.5,2.0)+flip"})
  config.optim.update({"name": "sgd", "lr": 0.01, "batch_reference": 16, "momentum": 0.9, "l2": 4e-5})
  config.optim.update({"schedule": "poly", "power": 0.9, "ema": 0.9999})
  config.train.update({"batch_size": 16, "steps": 90_000})
  # whole photos: 2,975 of them are 185 steps
  config.evaluate.update({"batch_size": 8, "every": 20.0})
  config.checkpoint.every = 10.0
  return config
