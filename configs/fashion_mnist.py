"""MobileNetV3-Small on the embedded photos: the demo."""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """`configs/fashion_mnist.py:mobilenetv3_large` trains another network."""
  config = base()
  config.model.name = model
  config.model.resolution = 32
  config.model.bn_momentum = 0.99
  config.optim.update({"lr": 0.02, "batch_reference": 0, "epsilon": 0.002, "decay_rate": 0.9, "decay_epochs": 1.0})
  config.optim.update({"warmup": 1.0, "ema": 0.999})
  config.train.update({"batch_size": 64, "epochs": 40.0})
  config.evaluate.every = 2.0
  config.checkpoint.every = 5.0
  return config
