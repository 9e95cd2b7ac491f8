"""Fine-tuning of published weights on images of your own, in IMAGES/train/CLASS/*.jpg and IMAGES/test/CLASS/*.jpg.

Command:   mnv3 train --config configs/fine_tuning.py:mobilenetv2 --config.data.dir=IMAGES --workdir DIR
           --init torchvision/MobileNet_V2_Weights.IMAGENET1K_V1
Machine:   two CPU cores for some hundred images, a GPU for more
Expected:  on 144 photos of nine classes, 128 px: docs/class-folder.md. With few images per class, the last layer alone learns
           as much: --config.optim.lr_groups=backbone=0,features=0 --config.optim.lr=0.01
Source:    this project's own recipe: AdamW and a cosine over 15 epochs
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.name = model
  config.data.update({"dataset": "folder", "train_split": "train", "eval_split": "test", "augment": "crop_flip"})
  config.optim.update({"name": "adamw", "lr": 5e-4, "batch_reference": 0, "decay": 0.999, "epsilon": 1e-8})
  config.optim.update({"weight_decay": 1e-3, "l2": 0.0, "schedule": "cosine", "warmup": 1.0, "ema": 0.95})
  config.train.update({"batch_size": 32, "epochs": 15.0, "label_smoothing": 0.1, "log_every": 10})
  config.evaluate.batch_size = 50
  return config
