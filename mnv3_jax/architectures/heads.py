"""Heads as values: the rows after the backbone, one class per kind of output.

A head describes its own layers once, in `layers`. The printed table, the counts, the names of rows and parameters, exporters
and importers all derive from that description. A new head is a class with the interface of `Head`, entered in HEADS; its Linen
module is entered in models/network.py.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.conventions import CONVENTIONS
from mnv3_jax.architectures.head_layers import HeadLayer as HeadLayer, Network as Network
from mnv3_jax.architectures.segmentation_heads import POOLS, SKIPS, LRASPPHead as LRASPPHead, RASPPHead as RASPPHead
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.ssdlite_head import SSDLiteHead as SSDLiteHead
from mnv3_jax.architectures.validation import ACTIVATIONS, GATES, check_bool, check_choice, check_range, check_whole, fail


class Head(Protocol):
  """Interface of a head: a frozen dataclass of its settings.

  Attributes:
    name: value of config.model.head.
    task: "classification", "segmentation", ...: which task trains it.
  """

  name: ClassVar[str]
  task: ClassVar[str]
  __dataclass_fields__: ClassVar[dict[str, Any]]

  def validate(self, row: str, architecture: Network) -> None:
    """Raises ArchitectureError for a setting that is not possible; `row` begins the message."""
    ...

  def layers(self, architecture: Network, size: Size, channels: int) -> tuple[HeadLayer, ...]:
    """Returns the layers in the order of the data, given the size and channels of the backbone's last map."""
    ...

  def output_shape(self, architecture: Network) -> tuple[int, ...]:
    """Returns the shape of the network's output for one image, without the batch axis."""
    ...

  def __str__(self) -> str:
    """Describes the head in a few words, for messages: "lr_aspp of 128 filters"."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierHead:
  """One class per image: average pool, a 1x1 convolution, without batch norm (NBN) in V3, dropout, logits.

  With num_classes=0 the network ends before the dropout, and its output are the features of an image.

  Attributes:
    hidden: channels of the 1x1 convolution after the pool; None for none (V2, MnasNet).
    hidden_norm: whether batch norm follows that convolution (MobileNetV4) in place of a bias.
    activation: after it.
    dropout: rate of the units dropped before the logits (the paper's "dropout of 0.8" is the share kept).
  """

  name: ClassVar[str] = "classifier"
  task: ClassVar[str] = "classification"

  hidden: int | None = None
  hidden_norm: bool = False
  activation: str = "relu"
  dropout: float = 0.2

  def validate(self, row: str, architecture: Network) -> None:
    """Raises ArchitectureError for a setting that is not possible."""
    if self.hidden is not None:
      check_whole(row, "hidden", self.hidden)
    check_bool(row, "hidden_norm", self.hidden_norm)
    if self.hidden_norm and self.hidden is None:
      fail(row, "hidden_norm", True, "expected False without a hidden layer")
    check_choice(row, "activation", self.activation, ACTIVATIONS)
    check_range(row, "dropout", self.dropout, 0, 1)

  def layers(self, architecture: Network, size: Size, channels: int) -> tuple[HeadLayer, ...]:
    """Returns the pool, the hidden layer where there is one, and the logits."""
    found = [
      HeadLayer(
        name="pool",
        kind="pool",
        in_size=size,
        out_size=1,
        in_channels=channels,
        out_channels=channels,
        window=sizes.sides(size),
      )
    ]

    def connected(
      name: str, inputs: int, outputs: int, activation: str, *, norm: bool = False, per_class: bool = False
    ) -> HeadLayer:
      return HeadLayer(
        name=name,
        kind="fc",
        in_size=1,
        out_size=1,
        in_channels=inputs,
        out_channels=outputs,
        norm=norm,
        activation=activation,
        per_class=per_class,
      )

    if self.hidden is not None:
      found.append(connected("hidden", channels, self.hidden, self.activation, norm=self.hidden_norm))
      channels = self.hidden
    if not architecture.num_classes:
      return tuple(found)
    return (*found, connected("logits", channels, architecture.num_classes, "linear", per_class=True))

  def output_shape(self, architecture: Network) -> tuple[int, ...]:
    """Returns (num_classes,), or the number of features without classes."""
    return (architecture.num_classes or self.hidden or architecture.last_map()[1],)

  def __str__(self) -> str:
    return self.name


def classifier_head(architecture: Network, field: str, value: object) -> ClassifierHead:
  """Returns the head of a classifier; raises ArchitectureError about `field` where the network has another one."""
  if not isinstance(architecture.head, ClassifierHead):
    fail(architecture.name, field, value, f"the network has {architecture.head.name}; this edit comes before with_head")
  return architecture.head


# by value of config.model.head
HEADS: dict[str, type[Head]] = {head.name: head for head in (ClassifierHead, LRASPPHead, RASPPHead, SSDLiteHead)}
# number of classes of a network where none is given, by head; that of ImageNet for others
NUM_CLASSES = {SSDLiteHead.name: 90}


class Setting(NamedTuple):
  """A setting of heads that config.model has as head_NAME: its type, its help, and its values where these can be listed."""

  type: type
  help: str
  choices: tuple[str, ...] | None = None


SETTINGS = {
  "hidden": Setting(int, "channels of a classifier's hidden layer, as the network has them at any width; 0: none"),
  "filters": Setting(int, "F of Table 7 (128; r_aspp: 256)"),
  "pool": Setting(str, "a segmentation head's average pool: 49x49, the authors' release's 25x25, or all (paper)", tuple(POOLS)),
  "gate": Setting(str, "activation after lr_aspp's pool (sigmoid)", GATES),
  "gate_bias": Setting(bool, "whether lr_aspp's gate has a bias (true); torchvision's has none"),
  "skip": Setting(str, "lr_aspp's map at stride 8: the last depthwise one, or torchvision's first block (depthwise)", SKIPS),
  "convention": Setting(
    str,
    "ssdlite's default boxes, codes, matching, losses and scores, and the network's padding (tensorflow)",
    tuple(CONVENTIONS),
  ),
  "class_bias": Setting(
    float, "start of the bias of ssdlite's logits (0); -4.6 is in the authors' file, where it has no effect"
  ),
}
