"""Training batches of JPEG and other files, by TensorFlow's own operations: what Inception's preprocessing was made of.

Reading, decoding and distorting are one graph without a Python function in it: that would need Python's lock, which whoever
drops a tf.data iterator holds while it waits for such functions to end. TensorFlow is imported here alone, and only when
training on files begins.
"""

import concurrent.futures
import itertools
import os

import numpy as np
from PIL import Image

from mnv3_jax.data.transforms.decoding import bitmap, photo
from mnv3_jax.errors import FatalError, UsageError, first_line

# of the permutation
ROUNDS = 16
# photos that are read at a time: what waits for a disk or a network takes no processor
READS = 16
# of Exif, in either order of bytes: the camera was turned
TURNED = r"\C*(\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]|\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08])\C*"


def tensorflow():
  """TensorFlow, which is kept from taking an accelerator."""
  # its greetings are no news to our readers
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  import tensorflow as tf

  tf.config.set_visible_devices([], "GPU")
  return tf


class Stream:
  """This host's share of training batches.

  What is done to a photo depends on the seed, the epoch and its number alone.

  Args:
    source: photos by number; see data/sources/folder.py.
    order: an Order.
    distortion: a distortions.Distortion.
    resolution: height and width in pixels.
    view: a views.View: how values are scaled.
  """

  def __init__(self, source, order, distortion, resolution, view):
    self.tf = tensorflow()
    self.source, self.order, self.distortion, self.resolution, self.view = source, order, distortion, resolution, view
    self.read = source.reader(self.tf)

  def batches(self, start):
    """Batches from step `start` on, for ever.

    A photo that TensorFlow cannot decode is decoded by Pillow, and replaced by another of the same share if that cannot either.

    Yields:
      {"image": (share, r, r, 3) float32, "label": (share,) int32, "broken": [why a photo was left out]}.

    Raises:
      FatalError: if not one photo of a share can be decoded.
    """
    share = self.order.share
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for step, columns in enumerate(self._shares(start), start):
        broken = []
        if len(columns[0]) < share or not columns[-1].all():
          columns, broken = self._filled(columns, step * share, pool)
        image, label, epoch, index, *_ = columns
        if self.distortion.policy or self.distortion.erase:
          image = np.stack(list(pool.map(self._finished, image, epoch, index)))
        yield {"image": image, "label": label, "broken": broken}

  def _shares(self, start):
    """Columns of every share from step `start` on, less what TensorFlow cannot decode."""
    tf, share = self.tf, self.order.share
    stream = self._stream(start * share, 2**62, self._mostly_jpeg()).batch(share, drop_remainder=True).prefetch(1)
    stream = stream.as_numpy_iterator()
    for step in itertools.count(start):
      try:
        columns = next(stream)
        assert columns[4][0] == step * share, "tf.data goes on with the next share after an error"
      except tf.errors.OpError:
        # all of the share is lost with one photo: once more, photo by photo
        part = self._stream(step * share, (step + 1) * share, False).ignore_errors(log_warning=False).batch(share)
        columns = next(part.as_numpy_iterator(), [np.zeros(0)] * 6)
      yield columns

  def _mostly_jpeg(self):
    """Whether the photos are JPEG files, going by one of them; another is an error in a stream made for them."""
    tf = self.tf
    try:
      return bool(tf.io.is_jpeg(self.read(tf.constant(0, tf.int64))[0]))
    except tf.errors.OpError:
      return False

  def _stream(self, begin, end, jpeg):
    """The photos at positions from `begin` on: (image, label, epoch, index, position, whether it is upright).

    One map and nothing between it and the caller's batch: tf.data then makes the photos where the batch is.
    """
    tf = self.tf

    def read(position):
      epoch, index = self._place(position)
      return *self._read(index), epoch, index, position

    def show(content, label, epoch, index, position):
      return self._render(content, epoch, index, jpeg), label, epoch, index, position, self._upright(content)

    # there is no Python control flow to be converted
    plain = tf.autograph.experimental.do_not_convert
    photos = tf.data.Dataset.range(begin, end).map(plain(read), num_parallel_calls=READS)
    return photos.map(plain(show), num_parallel_calls=tf.data.AUTOTUNE)

  def _read(self, index):
    content, label = self.read(index)
    return content, self.tf.cast(label, self.tf.int32)

  def _upright(self, content):
    """Whether a file's photo need not be turned, which TensorFlow cannot."""
    tf = self.tf
    return tf.logical_not(tf.strings.regex_full_match(tf.strings.substr(content, 0, 512), TURNED))

  def _place(self, position):
    """(epoch, index) of the photo at a position in the stream of all that this host reads, int64."""
    tf, order = self.tf, self.order
    epoch, place = order.within(position)
    seed = tf.cast(tf.stack([order.seed, epoch, 0]), tf.uint32)
    # with the public function's four rounds, one epoch's order looks like the next one's
    shuffled = tf.raw_ops.RandomIndexShuffle(
      index=place, seed=seed, max_index=tf.constant(order.n - 1, tf.int64), rounds=ROUNDS
    )
    return epoch, shuffled

  def _filled(self, columns, begin, pool):
    """(columns of the share that begins at a position, why photos were left out), where some are missing or not upright."""
    there = {int(row[-2]): row for row in zip(*columns, strict=True) if row[-1]}
    missing = [position for position in range(begin, begin + self.order.share) if position not in there]
    broken = []
    for position, row in zip(missing, pool.map(self._again, missing), strict=True):
      if isinstance(row, str):
        broken.append(row)
      else:
        there[position] = row
    if not there:
      raise FatalError(f"not one of the {len(missing)} photos of a batch can be read: {'; '.join(broken[:5])}")
    other = there[min(there)]
    rows = [there.get(position, other) for position in range(begin, begin + self.order.share)]
    return [np.stack(column) for column in zip(*rows, strict=True)], broken

  def _again(self, position):
    """The row of a photo that TensorFlow cannot decode, by way of Pillow; or a sentence on why it is broken."""
    tf = self.tf
    epoch, index = self._place(tf.constant(position, tf.int64))
    try:
      image, label = photo(self.source, int(index))
      image = self._render(tf.constant(bitmap(image)), epoch, index).numpy()
    except (UsageError, OSError, tf.errors.OpError) as error:
      return first_line(error)
    return image, np.int32(label), epoch.numpy(), index.numpy(), np.int64(position), np.True_

  def _render(self, content, epoch, index, jpeg=False):
    """The photo of a file: (r, r, 3), float32 as the network takes it; uint8 where a policy follows.

    A file that has to be a JPEG is a tenth faster than one that has to be looked at.
    """
    tf, d, side = self.tf, self.distortion, self.resolution
    # the stateless generators scramble their seeds: neighbours have nothing in common
    stream = self.order.seed + epoch * 2**32
    u = tf.random.stateless_uniform([3], tf.stack([stream, index]))
    box_seed = tf.stack([stream, index + 2**40])

    def from_jpeg():
      return tf.io.decode_and_crop_jpeg(content, self._box(tf.io.extract_jpeg_shape(content), box_seed), channels=3)

    def from_any():
      image = tf.io.decode_image(content, channels=3, expand_animations=False)
      top, left, height, width = tf.unstack(self._box(tf.shape(image), box_seed))
      return image[top : top + height, left : left + width]

    image = from_jpeg() if jpeg else tf.cond(tf.io.is_jpeg(content), from_jpeg, from_any)
    # as Inception's: bilinear without antialiasing
    image = tf.image.resize(image, [side, side])
    if d.flip:
      # not a slice: one with a negative step takes a third as long as the decoding
      image = tf.cond(u[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    if d.brightness:
      image += 255 * d.brightness * (2 * u[1] - 1)
    least, greatest = d.saturation
    if least < greatest:
      image = tf.image.adjust_saturation(image, least + u[2] * (greatest - least))
    if d.brightness or least < greatest:
      image = tf.clip_by_value(image, 0, 255)
    if d.policy:
      return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), [side, side, 3])
    scale, shift = self.view.scale_and_shift()
    return tf.ensure_shape(image * scale - shift, [side, side, 3])

  def _box(self, shape, seed):
    """(top, left, height, width) of the crop of a photo of `shape`, int32."""
    tf = self.tf
    if self.distortion.area is None:
      height, width = shape[0], shape[1]
      crop = tf.cast(tf.round(self.view.crop * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
      return tf.stack([(height - crop) // 2, (width - crop) // 2, crop, crop])
    corner, size, _ = tf.image.stateless_sample_distorted_bounding_box(
      shape,
      # no box that has to be in the crop: its area and aspect alone count
      tf.zeros([1, 0, 4]),
      seed,
      min_object_covered=0.0,
      aspect_ratio_range=self.distortion.aspect,
      area_range=self.distortion.area,
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    return tf.stack([corner[0], corner[1], size[0], size[1]])

  def _finished(self, image, epoch, index):
    """What `_render` gave after the policy and the eraser, float32."""
    rng = np.random.default_rng([self.order.seed, int(epoch), int(index), 2])
    if self.distortion.policy:
      image = self.view.normalised(np.asarray(self.distortion.policy(Image.fromarray(image), rng), np.float32))
    if rng.random() < self.distortion.erase:
      image = erased(image, rng)
    return image


def erased(image, rng):
  """An image (r, r, 3) of which a rectangle, 2 to 33 % of the area and of aspect 0.3 to 3.3, is standard normal noise."""
  side, area, aspect = len(image), rng.uniform(0.02, 1 / 3), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
  height, width = (min(max(round(side * s), 1), side) for s in (np.sqrt(area * aspect), np.sqrt(area / aspect)))
  top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
  image = image.copy()
  image[top : top + height, left : left + width] = rng.standard_normal((height, width, 3), np.float32)
  return image
