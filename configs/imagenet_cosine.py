"""The cheap recipe: SGD and a cosine over 150 epochs.

Command:   mnv3 train --config configs/imagenet_cosine.py:mobilenetv3_small --workdir DIR --config.data.dir=IMAGENET
Machine:   one GPU that holds 1024 images; smaller batches scale the learning rate
Expected:  not run here. Published with it: V3-Large 74.28, V3-Small 67.21
Source:    d-li14/mobilenetv3.pytorch, README: batch 1024, lr 0.4 cosine after 5 epochs of warm-up, weight decay 4e-5 on kernels
           only, dropout .2, label smoothing .1 for Large only, 150 epochs. The optimizer is not named there: SGD with momentum
           .9 is the choice here. It has no average of the weights, this one has .9999: --config.optim.ema=0 takes it away.
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.name = model
  config.model.update({"dropout": 0.2, "dtype": "bfloat16"})
  config.data.update({"dataset": "imagenet", "train_split": "train", "eval_split": "validation", "augment": "crop_flip"})
  config.optim.update({"name": "sgd", "lr": 0.4, "batch_reference": 1024, "momentum": 0.9, "l2": 4e-5, "l2_depthwise": True})
  config.optim.update({"schedule": "cosine", "warmup": 5.0, "ema": 0.9999})
  smoothing = 0.1 if model == "mobilenetv3_large" else 0.0
  config.train.update({"batch_size": 1024, "epochs": 150.0, "label_smoothing": smoothing})
  config.evaluate.batch_size = 1000
  return config
