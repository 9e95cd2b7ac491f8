"""Training batches of JPEG and other image files, by TensorFlow's own operations, as Inception's preprocessing was built.

Reading, decoding and augmenting are one graph without a Python function in it: that would need Python's lock, which is held
while a dropped tf.data iterator waits for such functions to end. Only this file imports TensorFlow for training, and only when
training on files begins.
"""

import concurrent.futures
import functools
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data.pipelines.completion import Completion
from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources.base import ImageSource
from mnv3_jax.data.transforms import headers
from mnv3_jax.data.transforms.decoding import MAX_PIXELS
from mnv3_jax.data.transforms.distortions import Distortion
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.types import Batch, Pixels, Size

# of the permutation
ROUNDS = 16
# files that are read at a time: waiting for a disk or a network takes no processor
READS = 16


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
    resolution: of the images.
    preprocessing: normalization.
  """

  def __init__(
    self, source: ImageSource, order: Order, distortion: Distortion, resolution: Size, preprocessing: Preprocessing
  ) -> None:
    self.tf = tensorflow()
    self.source, self.order, self.distortion = source, order, distortion
    self.resolution, self.preprocessing = resolution, preprocessing
    self.read = source.reader(self.tf)
    blank = io.BytesIO()
    Image.new("L", (1, 1)).save(blank, "JPEG")
    # decoded in place of a file that Pillow decodes
    self.blank = blank.getvalue()

  def batches(self, start: int) -> Iterator[Batch]:
    """Yields batches from step `start` on, without end: "image" (b, h, w, 3) float32, "label" (b,) int32, "broken".

    TensorFlow decodes the files for which that gives the pixels of data/transforms/decoding.py, by their headers; Pillow
    decodes all others. Where that fails, another image of the same batch, or else of the data set, replaces an image, and
    "broken" has the error message.

    Raises:
      FatalError: see Completion.complete.
    """
    completion = Completion(self.source, self.order, self._locate_eagerly, self._render_pixels(), self.jpeg)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for step, columns in enumerate(self._shares(start), start):
        columns, broken = completion.complete(columns, step * self.order.share, pool)
        image, label, epoch, index, _ = columns
        if self.distortion.policy or self.distortion.erase:
          image = np.stack(list(pool.map(self._finish, image, epoch, index)))
        yield {"image": image, "label": label, "broken": broken}

  def _shares(self, start: int) -> Iterator[Sequence[np.ndarray]]:
    """Yields the columns of every share from step `start` on (see _stream), without the images that are errors."""
    tf, share = self.tf, self.order.share
    stream = self._stream(start * share, 2**62).batch(share, drop_remainder=True).prefetch(1)
    stream = stream.as_numpy_iterator()
    for step in itertools.count(start):
      try:
        columns = next(stream)
        assert columns[4][0] == step * share, "tf.data goes on with the next share after an error"
      except tf.errors.OpError:
        # the error of one image loses all of the share: once more, image by image
        part = self._stream(step * share, (step + 1) * share).ignore_errors(log_warning=False).batch(share)
        columns = next(part.as_numpy_iterator(), [np.zeros(0)] * 8)
      yield columns

  @functools.cached_property
  def jpeg(self) -> bool:
    """True if the first file is a JPEG: TensorFlow then decodes no other format, which saves a tenth of the time."""
    tf = self.tf
    try:
      return bool(tf.io.is_jpeg(self.read(tf.constant(0, tf.int64))[0]))
    except tf.errors.OpError:
      return False

  def _stream(self, begin: int, end: int) -> Any:
    """Builds the tf.data.Dataset of positions from `begin` on: (image, label, epoch, index, position, head, length, tail).

    The last three are for headers.is_plain: the image is not valid if that denies it. There is one map and nothing between it
    and the caller's batch: tf.data then writes the images into the batch directly.
    """
    tf = self.tf

    def read(position: Any) -> tuple[Any, ...]:
      epoch, index = self._locate(position)
      return *self._read(index), epoch, index, position

    def render(content: Any, label: Any, epoch: Any, index: Any, position: Any) -> tuple[Any, ...]:
      length = tf.strings.length(content)
      # position -2 of an empty file would be an error
      tail = tf.strings.substr(content, tf.maximum(length - 2, 0), 2)
      ends = tf.strings.substr(content, 0, headers.HEAD), length, tail
      return self._render(content, epoch, index), label, epoch, index, position, *ends

    # there is no Python control flow to convert
    plain = tf.autograph.experimental.do_not_convert
    files = tf.data.Dataset.range(begin, end).map(plain(read), num_parallel_calls=READS)
    return files.map(plain(render), num_parallel_calls=tf.data.AUTOTUNE)

  def _read(self, index: Any) -> tuple[Any, Any]:
    """Content and label of an image."""
    content, label = self.read(index)
    return content, self.tf.cast(label, self.tf.int32)

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

  def _locate_eagerly(self, position: int) -> tuple[int, int]:
    """Returns (epoch, number of the image) of a position."""
    epoch, index = self._locate(self.tf.constant(position, self.tf.int64))
    return int(epoch), int(index)

  def _render_pixels(self) -> Callable[[Pixels, int, int], np.ndarray]:
    """Returns a function of (pixels, epoch, number of the image) that crops and augments as _render does."""
    tf = self.tf

    def render(image: Any, epoch: Any, index: Any) -> Any:
      colors, crop = self._seeds(epoch, index)
      return self._augment(self._crop(image, crop), colors)

    compiled = tf.function(
      render,
      [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64)],
      autograph=False,
    )
    return lambda image, epoch, index: compiled(image, np.int64(epoch), np.int64(index)).numpy()

  def _render(self, content: Any, epoch: Any, index: Any) -> Any:
    """Decodes and augments a file: (h, w, 3) float32, normalized; uint8 pixels where a policy follows.

    Files other than JPEG, and some PNG files where the first file is not a JPEG, give arbitrary pixels: Pillow decodes them.
    """
    tf, (colors, seed) = self.tf, self._seeds(epoch, index)

    def from_jpeg() -> Any:
      file = tf.cond(tf.io.is_jpeg(content), lambda: content, lambda: tf.constant(self.blank))
      shape = tf.io.extract_jpeg_shape(file)
      (rows, columns, _), (top, left, height, width) = tf.unstack(shape), tf.unstack(self._box(shape, seed))
      # one more column, without which the last would lack its neighbour's color; the accurate method is Pillow's
      wider = tf.stack([top, left, height, tf.minimum(width + 1, columns - left)])
      # an empty window is an error before anything is decoded, and Pillow's error names the limit
      small = tf.cast(rows, tf.float32) * tf.cast(columns, tf.float32) <= MAX_PIXELS
      window = wider * tf.cast(small, tf.int32)
      return tf.io.decode_and_crop_jpeg(file, window, channels=3, dct_method="INTEGER_ACCURATE")[:, :width]

    def from_png() -> Any:
      return self._crop(tf.io.decode_png(content, channels=3), seed)

    if self.jpeg:
      return self._augment(from_jpeg(), colors)
    is_png = tf.strings.regex_full_match(tf.strings.substr(content, 0, headers.PNG_HEADER_SIZE), headers.PNG_HEADER)
    return self._augment(tf.cond(is_png, from_png, from_jpeg), colors)

  def _crop(self, image: Any, seed: Any) -> Any:
    """Crops a decoded image."""
    top, left, height, width = self.tf.unstack(self._box(self.tf.shape(image), seed))
    return image[top : top + height, left : left + width]

  def _seeds(self, epoch: Any, index: Any) -> tuple[Any, Any]:
    """Seeds of the stateless generators, (2,) each: of colors and mirroring, and of the crop."""
    # the stateless generators scramble their seeds: consecutive seeds are independent
    stream = self.order.seed + epoch * 2**32
    return self.tf.stack([stream, index]), self.tf.stack([stream, index + 2**40])

  def _augment(self, image: Any, seed: Any) -> Any:
    """Resizes a crop, mirrors it and changes its colors; see _render."""
    tf, d, size = self.tf, self.distortion, sizes.sides(self.resolution)
    u = tf.random.stateless_uniform([3], seed)
    # bilinear without antialiasing, as Inception's
    image = tf.image.resize(image, size)
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
      return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), [*size, 3])
    scale, shift = self.preprocessing.scale_and_shift()
    return tf.ensure_shape(image * scale - shift, [*size, 3])

  def _box(self, shape: Any, seed: Any) -> Any:
    """Samples (top, left, height, width) of the crop of an image of `shape`, int32."""
    tf, (down, across) = self.tf, sizes.aspect(self.resolution)
    if self.distortion.area is None:
      # the share `crop` of the largest crop of the aspect ratio of the result
      height, width = shape[0], shape[1]
      unit = self.preprocessing.crop * tf.minimum(tf.cast(height, tf.float32) / down, tf.cast(width, tf.float32) / across)
      rows, columns = (tf.maximum(tf.cast(tf.round(unit * factor), tf.int32), 1) for factor in (down, across))
      return tf.stack([(height - rows) // 2, (width - columns) // 2, rows, columns])
    corner, size, _ = tf.image.stateless_sample_distorted_bounding_box(
      shape,
      # no object that the crop has to cover: only its area and aspect count
      tf.zeros([1, 0, 4]),
      seed,
      min_object_covered=0.0,
      aspect_ratio_range=[limit * across / down for limit in self.distortion.aspect],
      area_range=self.distortion.area,
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    return tf.stack([corner[0], corner[1], size[0], size[1]])

  def _finish(self, image: np.ndarray, epoch: np.int64, index: np.int64) -> np.ndarray:
    """Applies the policy and the eraser to the result of _render: (h, w, 3) float32."""
    rng = np.random.default_rng([self.order.seed, int(epoch), int(index), 2])
    if self.distortion.policy:
      image = self.preprocessing.normalize(np.asarray(self.distortion.policy(Image.fromarray(image), rng), np.float32))
    if rng.random() < self.distortion.erase:
      image = erased(image, rng)
    return image


def erased(image: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float32[np.ndarray, "h w 3"]:
  """Returns a normalized image with a rectangle of standard normal noise: 2 to 33 % of the area, aspect 0.3 to 3.3."""
  sides, area, aspect = image.shape[:2], rng.uniform(0.02, 1 / 3), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
  side, shares = np.sqrt(sides[0] * sides[1]), (np.sqrt(area * aspect), np.sqrt(area / aspect))
  height, width = (min(max(round(side * s), 1), n) for s, n in zip(shares, sides, strict=True))
  top, left = rng.integers(sides[0] - height + 1), rng.integers(sides[1] - width + 1)
  image = image.copy()
  image[top : top + height, left : left + width] = rng.standard_normal((height, width, 3), np.float32)
  return image
