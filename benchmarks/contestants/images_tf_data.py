"""Contestant of pipeprotocol.py: a plain tf.data pipeline of shuffled files, decode_and_crop, resize, flip, scale.

It cannot be resumed, and ends at an image that cannot be decoded.
"""

import os
import pathlib
import time
from typing import Any

import protocol

CASE = protocol.read_case()
os.sched_setaffinity(0, CASE["cores"])

from mnv3_jax.data.pipelines.tf_stream import tensorflow  # noqa: E402


def main() -> None:
  """Runs the contestant."""
  tf = tensorflow()
  side = CASE["resolution"]
  low = {"crop_flip": 0.08, "inception": 0.05}[CASE["augment"]]

  def load(path: Any, label: Any) -> Any:
    content = tf.io.read_file(path)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
      tf.io.extract_jpeg_shape(content),
      tf.zeros([1, 0, 4]),
      min_object_covered=0.0,
      aspect_ratio_range=(0.75, 4 / 3),
      area_range=(low, 1.0),
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    box = tf.stack([begin[0], begin[1], size[0], size[1]])
    image = tf.image.resize(tf.io.decode_and_crop_jpeg(content, box, channels=3), [side, side])
    image = tf.image.random_flip_left_right(image)
    if CASE["augment"] == "inception":
      image = tf.image.random_brightness(image, 32.0)
      image = tf.image.random_saturation(image, 0.5, 1.5)
      image = tf.clip_by_value(image, 0, 255)
    return image / 127.5 - 1, label

  began = time.perf_counter()
  paths = sorted(str(p) for p in pathlib.Path(CASE["folder"], "train").glob("*/*.jpg"))
  names = sorted({pathlib.Path(p).parent.name for p in paths})
  labels = [names.index(pathlib.Path(p).parent.name) for p in paths]
  stream = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths)).repeat()
  stream = stream.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(CASE["batch"], drop_remainder=True).prefetch(2)
  batches = stream.as_numpy_iterator()
  next(batches)
  protocol.serve(lambda: next(batches), lambda: None, first_batch_s=round(time.perf_counter() - began, 2))


if __name__ == "__main__":
  main()
