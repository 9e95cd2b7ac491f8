"""Classification: cross-entropy with label smoothing, and metrics as sums that are exact over any batches and devices."""

import dataclasses

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Classification:
  """What a classifier learns; training knows it by these methods only.

  Attributes:
    label_smoothing: share of the target that is spread over all classes.
  """

  label_smoothing: float = 0.0

  # the figure by which checkpoints are compared, larger is better; and what people call it
  best, called = "top1", "top-1"

  def loss(self, logits, batch):
    """Mean smoothed cross-entropy of logits (b, classes) against batch["label"] (b,); a scalar."""
    targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], logits.shape[-1]), self.label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()

  def predict(self, forward, images):
    """Logits (b, classes) of images, given what computes them."""
    return forward(images)

  def sums(self, logits, batch):
    """Sums over the examples with batch["mask"] 1 (all, where there is no mask).

    Returns:
      A dict of float32 scalars: "loss" (unsmoothed), "top1", "top5", "count".
    """
    label = batch["label"]
    mask = batch.get("mask", jnp.ones(label.shape))
    _, ranked = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    hits = ranked == label[:, None]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    figures = {"loss": loss, "top1": hits[:, 0], "top5": hits.any(1), "count": jnp.ones(label.shape)}
    # where, not a product: a filled-up example may hold anything
    return {k: jnp.where(mask > 0, v, 0).sum().astype(jnp.float32) for k, v in figures.items()}

  def figures(self, sums):
    """Host sums to what people read: loss per example, top1 and top5 from 0 to 1, examples counted."""
    n = sums["count"]
    return {"loss": sums["loss"] / n, "top1": sums["top1"] / n, "top5": sums["top5"] / n, "count": int(n)}

  def lines(self, figures):
    """What `figures` has, in lines for people."""
    return [f"top-1 {figures['top1']:.4f}  top-5 {figures['top5']:.4f}  loss {figures['loss']:.4f}"]
