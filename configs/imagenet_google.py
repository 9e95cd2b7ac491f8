"""Google's own later recipe for V3-Small: 1000 epochs.

Command:   mnv3 train --config configs/imagenet_google.py --workdir DIR --config.data.dir=IMAGENET
Machine:   a TPU slice or GPUs that hold 4096 images; fewer with --config.train.accumulate=8
Expected:  not run here. Published with it: V3-Small top-1 67.5, top-5 87.6
Source:    TensorFlow Model Garden, official/vision/configs/experiments/image_classification/imagenet_mobilenetv3small_tpu.yaml:
           RMSProp rho .9 momentum .9 eps .002, lr 0.01 at 4096, x0.99 every 936 steps (3 epochs), 5 epochs of warm-up, L2 1e-5,
           dropout .2, label smoothing .1, average .9999, batch norm .997/1e-3, bfloat16. Its warm-up begins at 0.001, this one
           at 0. Its crop is ResNet's (8 to 100 %) and flip, without colour: its configs name no other.
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; other networks of the zoo by their names."""
  config = base()
  config.model.name = model
  config.model.update({"dropout": 0.2, "bn_momentum": 0.997, "bn_epsilon": 1e-3, "dtype": "bfloat16"})
  config.data.update({"dataset": "imagenet", "train_split": "train", "eval_split": "validation", "augment": "crop_flip"})
  config.optim.update({"lr": 0.01, "batch_reference": 4096, "epsilon": 0.002, "l2": 1e-5, "warmup": 5.0, "ema": 0.9999})
  config.optim.update({"schedule": "exponential", "decay_rate": 0.99, "decay_epochs": 3.0})
  config.train.update({"batch_size": 4096, "epochs": 1000.0, "label_smoothing": 0.1})
  config.evaluate.update({"batch_size": 1000, "every": 5.0})
  config.checkpoint.every = 5.0
  return config
