"""Segmentation: cross-entropy of every pixel, and the mean intersection over union from one confusion matrix of all pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnv3_jax.models.resize import bilinear

# the label of pixels that do not count
IGNORED = 255


@dataclasses.dataclass(frozen=True)
class Segmentation:
  """What a segmenter learns; training knows it by the methods of tasks/classification.py.

  Attributes:
    classes: names by label.
    label_smoothing: share of the target that is spread over all classes.
    flip: whether evaluation averages over the image and its mirror image.
    scales: of the image, whose probabilities evaluation averages; (1.0,) is the paper's.
  """

  classes: tuple
  label_smoothing: float = 0.0
  flip: bool = False
  scales: tuple = (1.0,)

  # the figure by which checkpoints are compared, larger is better; and what people call it
  best, called = "miou", "mIoU"

  def loss(self, logits, batch):
    """Mean smoothed cross-entropy of logits (b, h, w, classes) against batch["label"] (b, h, w) where that is no IGNORED."""
    counted = self._counted(batch)
    label = jnp.where(counted, batch["label"], 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    if self.label_smoothing:
      even = -jax.nn.log_softmax(logits).mean(-1)
      loss = (1 - self.label_smoothing) * loss + self.label_smoothing * even
    return jnp.where(counted, loss, 0).sum() / jnp.maximum(counted.sum(), 1)

  def predict(self, forward, images):
    """Logits (b, h, w, classes) of images, or the logarithm of averaged probabilities where there is more than one view.

    Args:
      forward: images to logits.
      images: (b, h, w, c).
    """
    if not self.flip and self.scales == (1.0,):
      return forward(images)
    size, total = images.shape[1:3], 0
    for scale in self.scales:
      sides = [int(n * scale) for n in size]
      shown = images if scale == 1 else jax.image.resize(images, (len(images), *sides, images.shape[3]), "bilinear")
      for mirrored in (False, True)[: 1 + self.flip]:
        p = jax.nn.softmax(forward(shown[:, :, ::-1] if mirrored else shown))
        total += _sized(p[:, :, ::-1] if mirrored else p, size)
    return jnp.log(jnp.maximum(total / (len(self.scales) * (1 + self.flip)), 1e-30))

  def sums(self, logits, batch):
    """Sums over the images with batch["mask"] 1 (all, where there is no mask).

    Returns:
      "loss" (unsmoothed, over pixels) and "count" (images), float32; "confusion" (classes, classes) int32: pixels of each class
      (row) that were taken for each (column). Pixels with the label IGNORED are in neither.
    """
    n, counted = logits.shape[-1], self._counted(batch)
    label = jnp.where(counted, batch["label"], 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    cell = label * n + logits.argmax(-1).astype(jnp.int32)
    # whole numbers: float32 would lose pixels from 2^24 on
    confusion = jnp.zeros(n * n, jnp.int32).at[cell.ravel()].add(counted.ravel().astype(jnp.int32))
    mask = batch.get("mask", jnp.ones(label.shape[:1]))
    return {
      "loss": jnp.where(counted, loss, 0).sum().astype(jnp.float32),
      "count": (mask > 0).sum().astype(jnp.float32),
      "confusion": confusion.reshape(n, n),
    }

  def figures(self, sums):
    """Host sums to what people read.

    Returns:
      "loss" per pixel; "miou", the mean over classes that are there or were seen; "pixel_accuracy"; "count", images; and
      "iou/CLASS" of every class that the photos or the network have. All from 0 to 1 but the loss.
    """
    confusion = np.asarray(sums["confusion"], np.float64)
    hit, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    pixels = max(confusion.sum(), 1.0)
    names = [*self.classes, *(f"class {i}" for i in range(len(self.classes), len(union)))]
    iou = {name: float(h / u) for name, h, u in zip(names, hit, union, strict=True) if u > 0}
    return {
      "loss": sums["loss"] / pixels,
      "miou": sum(iou.values()) / max(len(iou), 1),
      "pixel_accuracy": float(hit.sum() / pixels),
      "count": int(sums["count"]),
      **{f"iou/{name}": value for name, value in iou.items()},
    }

  def lines(self, figures):
    """What `figures` has, in lines for people: the IoU of every class by name."""
    first = f"mIoU {figures['miou']:.4f}  pixel accuracy {figures['pixel_accuracy']:.4f}  loss {figures['loss']:.4f}"
    iou = {name.removeprefix("iou/"): value for name, value in figures.items() if name.startswith("iou/")}
    width = max((len(name) for name in iou), default=0)
    return [first, *(f"  {name:<{width}}  {value:.4f}" for name, value in iou.items())]

  def _counted(self, batch):
    """Which pixels count, (b, h, w)."""
    counted = batch["label"] != IGNORED
    return counted & (batch["mask"] > 0)[:, None, None] if "mask" in batch else counted


def _sized(x_bhwc, size):
  """Maps at another size, larger or smaller."""
  if x_bhwc.shape[1] <= size[0] and x_bhwc.shape[2] <= size[1]:
    return bilinear(x_bhwc, size)
  return jax.image.resize(x_bhwc, (len(x_bhwc), *size, x_bhwc.shape[3]), "bilinear", antialias=False)
