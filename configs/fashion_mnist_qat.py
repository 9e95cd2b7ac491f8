"""Quantization-aware fine-tuning of a run of configs/fashion_mnist.py.

Command:   mnv3 train --config configs/fashion_mnist_qat.py --init DIR --workdir OTHER
Machine:   two CPU cores, about one minute and a half (V3-Large and V2 two and a half to four)
Expected:  top-1 as an int8 file that has the ranges of the run, within half a point of DIR's: 0.9000 for V3-Small (DIR: 0.9020,
           after 42 epochs), 0.8915 for V3-Large (0.8875, 15 epochs), 0.9005 for V2 (0.8990, 15 epochs)
Source:    this project's own recipe: the float recipe's optimizer at a fortieth of its learning rate. At a tenth, results were
           further from DIR's, up and down: 0.9030, 0.8950 and 0.8955.
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/fashion_mnist_qat.py:mobilenetv3_large` fine-tunes another network."""
  config = base()
  config.model.name = model
  config.model.resolution = 32
  config.data.augment = "shift_flip"
  config.optim.update({"lr": 5e-6, "batch_reference": 0, "epsilon": 1e-6, "schedule": "cosine", "ema": 0.99})
  config.train.update({"batch_size": 64, "epochs": 3.0, "log_every": 156})
  config.quantize_aware = True
  return config
