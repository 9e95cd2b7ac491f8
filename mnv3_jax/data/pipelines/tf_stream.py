"""Training batches of JPEG and other image files, by TensorFlow's own operations, as Inception's preprocessing was built.

Reading, decoding and augmenting are one graph without a Python function in it: that would need Python's lock, which is held
while a dropped tf.data iterator waits for such functions to end. Only this file imports TensorFlow for training, and only when
training on files begins.
"""

import concurrent.futures
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources.base import ImageSource, read_image
from mnv3_jax.data.transforms.decoding import to_bmp
from mnv3_jax.data.transforms.distortions import Distortion
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import FatalError, UsageError, first_line
from mnv3_jax.types import Batch

# of the permutation
ROUNDS = 16
# files that are read at a time: waiting for a disk or a network takes no processor
READS = 16
# Exif orientation other than upright, in either byte order
TURNED = r"\C*(\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]|\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08])\C*"


def tensorflow() -> Any:
  """Imports TensorFlow, without its log lines and kept from taking an accelerator."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  import tensorflow as tf

  tf.config.set_visible_devices([], "GPU")
  return tf


class Stream:
  """This host's share of the training batches.

  The augmentation of an image depends on the seed, the epoch and its number alone.

  Args:
    source: images of the training split.
    order: numbers of the images by step.
    distortion: augmentation.
    resolution: height and width in pixels.
    preprocessing: normalization.
  """

  def __init__(
    self, source: ImageSource, order: Order, distortion: Distortion, resolution: int, preprocessing: Preprocessing
  ) -> None:
    self.tf = tensorflow()
    self.source, self.order, self.distortion = source, order, distortion
    self.resolution, self.preprocessing = resolution, preprocessing
    self.read = source.reader(self.tf)

  def batches(self, start: int) -> Iterator[Batch]:
    """Yields batches from step `start` on, without end: "image" (b, r, r, 3) float32, "label" (b,) int32, "broken".

    An image that TensorFlow cannot decode is decoded by Pillow; if that fails, another image of the same batch replaces it, and
    "broken" has the error message.

    Raises:
      FatalError: if not one image of a batch can be decoded.
    """
    share = self.order.share
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for step, columns in enumerate(self._shares(start), start):
        broken = []
        if len(columns[0]) < share or not columns[-1].all():
          columns, broken = self._fill(columns, step * share, pool)
        image, label, epoch, index, *_ = columns
        if self.distortion.policy or self.distortion.erase:
          image = np.stack(list(pool.map(self._finish, image, epoch, index)))
        yield {"image": image, "label": label, "broken": broken}

  def _shares(self, start: int) -> Iterator[Sequence[np.ndarray]]:
    """Yields the columns of every share from step `start` on, without the images that TensorFlow cannot decode."""
    tf, share = self.tf, self.order.share
    stream = self._stream(start * share, 2**62, self._is_jpeg()).batch(share, drop_remainder=True).prefetch(1)
    stream = stream.as_numpy_iterator()
    for step in itertools.count(start):
      try:
        columns = next(stream)
        assert columns[4][0] == step * share, "tf.data goes on with the next share after an error"
      except tf.errors.OpError:
        # the error of one image loses all of the share: once more, image by image
        part = self._stream(step * share, (step + 1) * share, False).ignore_errors(log_warning=False).batch(share)
        columns = next(part.as_numpy_iterator(), [np.zeros(0)] * 6)
      yield columns

  def _is_jpeg(self) -> bool:
    """Checks whether the first file is a JPEG; other formats are errors in a stream built for JPEG."""
    tf = self.tf
    try:
      return bool(tf.io.is_jpeg(self.read(tf.constant(0, tf.int64))[0]))
    except tf.errors.OpError:
      return False

  def _stream(self, begin: int, end: int, jpeg: bool) -> Any:
    """Builds the tf.data.Dataset of positions from `begin` on: (image, label, epoch, index, position, upright).

    There is one map and nothing between it and the caller's batch: tf.data then writes the images into the batch directly.
    """
    tf = self.tf

    def read(position: Any) -> tuple[Any, ...]:
      epoch, index = self._locate(position)
      return *self._read(index), epoch, index, position

    def render(content: Any, label: Any, epoch: Any, index: Any, position: Any) -> tuple[Any, ...]:
      return self._render(content, epoch, index, jpeg), label, epoch, index, position, self._upright(content)

    # there is no Python control flow to convert
    plain = tf.autograph.experimental.do_not_convert
    files = tf.data.Dataset.range(begin, end).map(plain(read), num_parallel_calls=READS)
    return files.map(plain(render), num_parallel_calls=tf.data.AUTOTUNE)

  def _read(self, index: Any) -> tuple[Any, Any]:
    """Content and label of an image."""
    content, label = self.read(index)
    return content, self.tf.cast(label, self.tf.int32)

  def _upright(self, content: Any) -> Any:
    """Checks that a file has no Exif orientation, which TensorFlow cannot apply."""
    tf = self.tf
    return tf.logical_not(tf.strings.regex_full_match(tf.strings.substr(content, 0, 512), TURNED))

  def _locate(self, position: Any) -> tuple[Any, Any]:
    """Returns (epoch, number of the image), int64, of a position in the stream of this host's examples."""
    tf, order = self.tf, self.order
    epoch, index = order.locate(position)
    seed = tf.cast(tf.stack([order.seed, epoch, 0]), tf.uint32)
    # with the four rounds of the public function, the orders of consecutive epochs are correlated
    shuffled = tf.raw_ops.RandomIndexShuffle(
      index=index, seed=seed, max_index=tf.constant(order.n - 1, tf.int64), rounds=ROUNDS
    )
    return epoch, shuffled

  def _fill(
    self, columns: Sequence[np.ndarray], begin: int, pool: concurrent.futures.ThreadPoolExecutor
  ) -> tuple[list[np.ndarray], list[str]]:
    """Completes the columns of the share that begins at a position, where images are missing or not upright.

    Returns:
      (columns, error messages of the unreadable images).
    """
    there = {int(row[-2]): row for row in zip(*columns, strict=True) if row[-1]}
    missing = [position for position in range(begin, begin + self.order.share) if position not in there]
    broken = []
    for position, row in zip(missing, pool.map(self._read_with_pillow, missing), strict=True):
      if isinstance(row, str):
        broken.append(row)
      else:
        there[position] = row
    if not there:
      raise FatalError(f"not one of the {len(missing)} images of a batch can be read: {'; '.join(broken[:5])}")
    other = there[min(there)]
    rows = [there.get(position, other) for position in range(begin, begin + self.order.share)]
    return [np.stack(column) for column in zip(*rows, strict=True)], broken

  def _read_with_pillow(self, position: int) -> tuple[Any, ...] | str:
    """Returns the row of an image that TensorFlow cannot decode, or an error message."""
    tf = self.tf
    epoch, index = self._locate(tf.constant(position, tf.int64))
    try:
      image, label = read_image(self.source, int(index))
      image = self._render(tf.constant(to_bmp(image)), epoch, index).numpy()
    except (UsageError, OSError, tf.errors.OpError) as error:
      return first_line(error)
    return image, np.int32(label), epoch.numpy(), index.numpy(), np.int64(position), np.True_

  def _render(self, content: Any, epoch: Any, index: Any, jpeg: bool = False) -> Any:
    """Decodes and augments a file: (r, r, 3) float32, normalized; uint8 pixels where a policy follows.

    With `jpeg`, which saves a tenth of the time, other formats are errors.
    """
    tf, d, side = self.tf, self.distortion, self.resolution
    # the stateless generators scramble their seeds: consecutive seeds are independent
    stream = self.order.seed + epoch * 2**32
    u = tf.random.stateless_uniform([3], tf.stack([stream, index]))
    box_seed = tf.stack([stream, index + 2**40])

    def from_jpeg() -> Any:
      return tf.io.decode_and_crop_jpeg(content, self._box(tf.io.extract_jpeg_shape(content), box_seed), channels=3)

    def from_any() -> Any:
      image = tf.io.decode_image(content, channels=3, expand_animations=False)
      top, left, height, width = tf.unstack(self._box(tf.shape(image), box_seed))
      return image[top : top + height, left : left + width]

    image = from_jpeg() if jpeg else tf.cond(tf.io.is_jpeg(content), from_jpeg, from_any)
    # bilinear without antialiasing, as Inception's
    image = tf.image.resize(image, [side, side])
    if d.flip:
      # a slice with a negative step would take a third as long as decoding
      image = tf.cond(u[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    if d.brightness:
      image += 255 * d.brightness * (2 * u[1] - 1)
    low, high = d.saturation
    if low < high:
      image = tf.image.adjust_saturation(image, low + u[2] * (high - low))
    if d.brightness or low < high:
      image = tf.clip_by_value(image, 0, 255)
    if d.policy:
      return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), [side, side, 3])
    scale, shift = self.preprocessing.scale_and_shift()
    return tf.ensure_shape(image * scale - shift, [side, side, 3])

  def _box(self, shape: Any, seed: Any) -> Any:
    """Samples (top, left, height, width) of the crop of an image of `shape`, int32."""
    tf = self.tf
    if self.distortion.area is None:
      height, width = shape[0], shape[1]
      crop = tf.cast(tf.round(self.preprocessing.crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
      return tf.stack([(height - crop) // 2, (width - crop) // 2, crop, crop])
    corner, size, _ = tf.image.stateless_sample_distorted_bounding_box(
      shape,
      # no object that the crop has to cover: only its area and aspect count
      tf.zeros([1, 0, 4]),
      seed,
      min_object_covered=0.0,
      aspect_ratio_range=self.distortion.aspect,
      area_range=self.distortion.area,
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    return tf.stack([corner[0], corner[1], size[0], size[1]])

  def _finish(self, image: np.ndarray, epoch: np.int64, index: np.int64) -> np.ndarray:
    """Applies the policy and the eraser to the result of _render: (r, r, 3) float32."""
    rng = np.random.default_rng([self.order.seed, int(epoch), int(index), 2])
    if self.distortion.policy:
      image = self.preprocessing.normalize(np.asarray(self.distortion.policy(Image.fromarray(image), rng), np.float32))
    if rng.random() < self.distortion.erase:
      image = erased(image, rng)
    return image


def erased(image: Float32[np.ndarray, "r r 3"], rng: np.random.Generator) -> Float32[np.ndarray, "r r 3"]:
  """Returns a normalized image with a rectangle of standard normal noise: 2 to 33 % of the area, aspect 0.3 to 3.3."""
  side, area, aspect = len(image), rng.uniform(0.02, 1 / 3), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
  height, width = (min(max(round(side * s), 1), side) for s in (np.sqrt(area * aspect), np.sqrt(area / aspect)))
  top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
  image = image.copy()
  image[top : top + height, left : left + width] = rng.standard_normal((height, width, 3), np.float32)
  return image
