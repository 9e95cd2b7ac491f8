"""Linen module of any Architecture."""

import flax.linen as nn

from mnv3_jax.architectures.heads import ClassifierHead, LRASPPHead, RASPPHead, SSDLiteHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.segmenter import Segmenter
from mnv3_jax.models.ssdlite import SSDLite

# by the class of the head
MODULES: dict[type, type] = {
  ClassifierHead: Classifier,
  LRASPPHead: Segmenter,
  RASPPHead: Segmenter,
  SSDLiteHead: SSDLite,
}


def network(architecture: Architecture, compute: Compute = Compute()) -> nn.Module:
  """Builds the Linen module of an Architecture: the one that MODULES has for its head."""
  return MODULES[type(architecture.head)](architecture, compute)
