"""Quantization-aware fine-tuning on the embedded photos."""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/fashion_mnist_qat.py:mobilenetv3_large` fine-tunes another network."""
  config = base()
  config.model.name = model
  config.model.resolution = 32
  config.data.augment = "shift_flip"
  config.optim.update({"lr": 2e-5, "batch_reference": 0, "epsilon": 1e-6, "schedule": "cosine", "ema": 0.99})
  config.train.update({"batch_size": 64, "epochs": 3.0, "log_every": 156})
  config.quantize_aware = True
  return config
