"""The paper's ImageNet recipe, for every network of the zoo.

Command:   mnv3 train --config configs/imagenet.py:mobilenetv3_large --workdir DIR --config.data.dir=IMAGENET
           IMAGENET is TFDS's folder with imagenet2012 in it, or has train/ and val/ with one folder per class
Machine:   the paper's: a TPU pod slice of 4 x 4, 128 images a chip; any number of devices whose batch is 4096 or scales to it
Expected:  not run here. The paper's top-1: V3-Large 75.2, V3-Small 67.4, V2 72.0, MnasNet-A1 75.2 (Table 3)
Source:    section 6.1.1 of arXiv 1905.02244: RMSProp .9/.9, lr 0.1 at 4096, x0.99 every 3 epochs, dropout keep 0.8, L2 1e-5,
           average .9999, batch norm .99, Inception's preprocessing

What the paper leaves open, and what is chosen here:
  epsilon    1.0, the default of the authors' slim code. Learning rate and epsilon go together: lr 0.1 with this epsilon is
             untested, and no accuracy is claimed for it. Google's later recipe (configs/imagenet_google.py): 0.01 with 0.002
  x0.99      "learning rate decay rate of 0.01 every 3 epochs" as a staircase: Google's later configs do exactly that
  warm-up    none is mentioned, and none is here
  smoothing  none is mentioned, and none is here; later recipes have 0.1
  epochs     350, as the authors' MnasNet code at this batch
  L2         on kernels but depthwise ones, as in slim; --config.optim.l2_depthwise=True adds those, as in the MnasNet code
  crop       5 to 100 % of the photo, as slim asks; slim's code also wants a tenth of the photo to be in it
"""

from mnv3_jax.config import base


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks."""
  config = base()
  config.model.name = model
  config.model.dropout = 0.2
  config.model.bn_momentum = 0.99
  config.model.dtype = "bfloat16"
  # the paper's 128 images a chip, on any number of devices; --config.model.bn_group=0: what a device has
  config.model.bn_group = 128
  config.data.update({"dataset": "imagenet", "train_split": "train", "eval_split": "validation", "augment": "inception"})
  config.optim.update(
    {
      "lr": 0.1,
      "batch_reference": 4096,
      "momentum": 0.9,
      "decay": 0.9,
      "epsilon": 1.0,
      "l2": 1e-5,
      "schedule": "exponential",
      "decay_rate": 0.99,
      "decay_epochs": 3.0,
      "ema": 0.9999,
    }
  )
  config.train.update({"batch_size": 4096, "epochs": 350.0})
  config.evaluate.update({"batch_size": 1000, "every": 1.0})
  return config
