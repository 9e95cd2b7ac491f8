"""timm's RMSProp recipe: 600 epochs with RandAugment and random erasing.

Command:   mnv3 train --config configs/imagenet_timm.py --workdir DIR --config.data.dir=IMAGENET
Machine:   two GPUs with 512 images each
Expected:  not run here. Published with it: V3-Large 75.77 (best epoch 466 of 600)
Source:    timm's training script page: RMSpropTF alpha .9 momentum .9 eps .001, lr .064 at 1024, x.973 every 2.4 epochs, 3
           epochs of warm-up, weight decay 1e-5, dropout .2, average .9999, rand-m9-mstd0.5, random erasing .2. Left out
           here: drop-path .2 and the noise on the learning rate. Its decay acts on all kernels, depthwise ones too.
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.name = model
  config.model.update({"dropout": 0.2, "dtype": "bfloat16"})
  config.data.update({"dataset": "imagenet", "train_split": "train", "eval_split": "validation"})
  config.data.augment = "crop_flip+randaugment(2,9,0.5)+erase(0.2)"
  config.optim.update({"lr": 0.064, "batch_reference": 1024, "epsilon": 0.001, "l2": 1e-5, "l2_depthwise": True})
  config.optim.update({"schedule": "exponential", "decay_rate": 0.973, "decay_epochs": 2.4, "warmup": 3.0, "ema": 0.9999})
  config.train.update({"batch_size": 1024, "epochs": 600.0})
  config.evaluate.update({"batch_size": 1000, "every": 1.0})
  return config
