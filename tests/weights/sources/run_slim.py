"""The logits of the authors' own code, TF-slim: run_slim.py CASE.npz ... writes CASE.logits.npy beside each."""

import importlib
import os
import pathlib
import sys
import warnings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

# the authors' code is older than NumPy's removal of this alias, and than these modules' move
np.int = int
warnings.filterwarnings("ignore")
for name in ("normalization", "base", "convolutional", "core", "pooling"):
  sys.modules[f"tf_keras.legacy_tf_layers.{name}"] = importlib.import_module(f"keras.src.legacy_tf_layers.{name}")

import object_detection  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
import tf_slim as slim  # noqa: E402

# the package has the authors' `nets` inside
sys.path.insert(0, object_detection.__path__[0])

from nets import mobilenet_v1  # noqa: E402
from nets.mobilenet import mobilenet_v2, mobilenet_v3  # noqa: E402

tf.disable_eager_execution()


def build(name, x):
  """The logits (n, 1001) of a released network."""
  width = next(float(part) for part in name.split("_") if "." in part)
  if name.startswith("mobilenet_v1"):
    with slim.arg_scope(mobilenet_v1.mobilenet_v1_arg_scope(is_training=False)):
      return mobilenet_v1.mobilenet_v1(x, num_classes=1001, is_training=False, depth_multiplier=width)[0]
  # the released networks below 1 keep the last layer's width
  fine = {"finegrain_classification_mode": width < 1}
  if name.startswith("mobilenet_v2"):
    with slim.arg_scope(mobilenet_v2.training_scope(is_training=False)):
      return mobilenet_v2.mobilenet(x, num_classes=1001, depth_multiplier=width, **fine)[0]
  size = "LARGE" if "large" in name else "SMALL"
  rows = getattr(mobilenet_v3, f"V3_{size}" + "_MINIMALISTIC" * ("minimalistic" in name))
  with slim.arg_scope(mobilenet_v3.training_scope(is_training=False)):
    return mobilenet_v3.mobilenet(x, num_classes=1001, depth_multiplier=width, conv_defs=rows, **fine)[0]


for path in map(pathlib.Path, sys.argv[1:]):
  case = np.load(path)
  tf.reset_default_graph()
  x = tf.placeholder(tf.float32, case["images"].shape)
  logits = build(str(case["model"]), x)
  variables = {v.op.name: v for v in tf.global_variables()}
  names = {k[2:] for k in case.files if k.startswith("w:")}
  assert names == set(variables), sorted(names ^ set(variables))[:6]
  with tf.Session() as session:
    for name, variable in variables.items():
      variable.load(case[f"w:{name}"], session)
    found = session.run(logits, {x: case["images"]})
    checkpoint = tf.train.Saver().save(session, str(path.with_suffix(".ckpt")))
  # the line that mnv3_jax/weights/slim.py gives: a checkpoint as an .npz
  r = tf.train.load_checkpoint(checkpoint)
  np.savez(path.with_suffix(".slim.npz"), **{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})
  with np.load(path.with_suffix(".slim.npz")) as converted:
    assert set(converted.files) == names and all((converted[n] == case[f"w:{n}"]).all() for n in names)
  np.save(path.with_suffix(".logits.npy"), found)
  print(f"{path.stem}: logits up to {np.abs(found).max():.2f}, spread over images {found.std(0).mean():.2f}", flush=True)
