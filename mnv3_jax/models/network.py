"""The Flax module of any Architecture."""

from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.segmenter import Segmenter


def network(architecture, compute=Compute()):
  """A Classifier, or a Segmenter where the architecture has one."""
  return (Segmenter if architecture.segmenter else Classifier)(architecture, compute)
