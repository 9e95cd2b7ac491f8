"""The authors' COCO configuration: SSDLite at 320 px, from scratch.

Command:   mnv3 train --config configs/coco_google.py:mobilenetv3_large --workdir DIR --config.data.dir=COCO
           COCO has annotations/instances_train2017.json, instances_val2017.json, and the folders train2017/ and val2017/
Machine:   any number of devices that share 512 images a step (the authors': 32 replicas with 16 each);
           fewer with --config.train.accumulate=16
Expected:  not run here. At the end, 400,000 steps of V3-Large and 800,000 of V3-Small: AP 22.0 and 16.1 (Table 6, both with the
           dagger), 22.6 and 15.4 in the authors' release, on a part of the validation images, of which their files name
           8,000. At 1, 5 and 20 % of the steps: not published
Source:    TensorFlow Object Detection API, ssdlite_mobilenet_v3_{large,small}_320x320_coco.config: SGD momentum .9, cosine from
           0.4 at 512, 2,000 steps of warm-up from 0.13333, L2 4e-5, batch norm .97/1e-3, focal loss .75/2, smooth L1 with the
           same weight, flip and ssd_random_crop, from scratch, no average of weights

Where this file differs, or the source is not clear:
  images     theirs are COCO's of 2014; those of 2017 are the same photos, with 118,287 for training in place of 82,783, or of
             about 118,000 where parts of the validation set were added; the configuration does not say
  losses     theirs are divided by the matches of each replica, here by those of the whole batch
  L2         of all kernels, depthwise ones too: their hyperparams_builder sets it for both kinds of convolution, and has no use
             for the field regularize_depthwise
  start      the first kernels of their predictors are not truncated, here all are
  bias       their -4.6 for the first logits has no effect in their own code, for predictors with depthwise convolutions: 0 is
             what they trained; --config.model.head_class_bias=-4.6 is what they wrote
  batch norm theirs has the statistics of 16 images, one replica's; here --config.model.bn_group=16 gives those, and without it
             each device has its own
  precision  bfloat16 in convolutions; theirs is not in the configuration (not verified)
  dagger     as in their files; --config.model.halved_tail=None is the row without it
  average    none there; 0.9999 costs nothing, and raw weights are evaluated beside it
"""

from mnv3_jax.config import base

STEPS = {"mobilenetv3_small": 800_000}


def get_config(model="mobilenetv3_large"):
  """The config of one of the zoo's networks; the dagger is defined for both sizes of V3 alone."""
  config = base()
  config.model.update({"name": model, "head": "ssdlite", "resolution": 320, "bn_momentum": 0.97, "bn_epsilon": 1e-3})
  config.model.update({"halved_tail": "detection" if model.startswith("mobilenetv3") else None, "dtype": "bfloat16"})
  config.data.update({"dataset": "coco", "train_split": "train2017", "eval_split": "val2017", "augment": "flip+ssd_crop"})
  config.optim.update({"name": "sgd", "lr": 0.4, "batch_reference": 512, "momentum": 0.9, "l2": 4e-5, "l2_depthwise": True})
  # 2,000 steps of 231 an epoch
  config.optim.update({"schedule": "cosine", "warmup": 2000 / 231, "warmup_from": 0.13333 / 0.4, "ema": 0.9999})
  config.train.update({"batch_size": 512, "steps": STEPS.get(model, 400_000)})
  config.evaluate.update({"batch_size": 100, "every": 20.0})
  config.checkpoint.every = 5.0
  return config
