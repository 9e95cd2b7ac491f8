"""Quantization-aware fine-tuning of a run of configs/scenes_segmentation.py.

Command:   mnv3 train --config configs/scenes_segmentation_qat.py --init DIR --workdir OTHER
Machine:   two CPU cores, about two minutes
Expected:  0.597 mIoU (averaged weights) on the 500 test scenes, from a run of 0.612: 0.596 of its int8 file, 0.591 of its
           int8_integer one. Files prepared after training alone have more, 0.613 and 0.609: see docs/segmentation.md
Source:    this project's own recipe: the float recipe's optimizer at a fifth of its learning rate. A fortieth, as in
           configs/fashion_mnist_qat.py, reaches 0.586, and three fifths 0.598
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_small"):
  """The config; `configs/scenes_segmentation_qat.py:mobilenetv3_large` fine-tunes another backbone."""
  config = base()
  config.model.update({"name": model, "head": "lr_aspp", "head_filters": 128})
  config.model.update({"resolution": 80, "resolution_width": 112, "output_stride": 16, "halved_tail": "segmentation"})
  config.data.update({"dataset": "scenes", "augment": "none"})
  config.optim.update({"lr": 2e-4, "batch_reference": 0, "epsilon": 1e-6, "schedule": "cosine", "ema": 0.99})
  config.train.update({"batch_size": 16, "epochs": 3.0, "log_every": 125})
  config.evaluate.batch_size = 50
  config.quantize_aware = True
  return config
