"""Detection head as a value: SSDLite (section 6.3 of the paper, and MobileNetV2's)."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.conventions import CONVENTIONS, Convention
from mnv3_jax.architectures.head_layers import HeadLayer, Network
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.validation import check_choice, check_range, check_whole, fail

# fewest channels of an extra layer, whatever the width
LEAST = 16
# numbers of a box
BOX = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxMap:
  """Map whose cells have anchors.

  Attributes:
    name: of the map in the backbone ("block_13/expand", "features"), or of the row that computes it ("extra_0").
    size: its height and width; (height, width) where they differ.
    channels: of it.
    anchors: per cell.
  """

  name: str
  size: Size
  channels: int
  anchors: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SSDLiteHead:
  """SSDLite: boxes and their classes from six maps, by depthwise separable convolutions.

  The maps are C4 (the last one at stride 16: the expansion of V3-Large's 13th and V3-Small's 9th block), the backbone's last
  one, and those of the extra rows, each a 1x1 convolution to half its channels, a 3x3 depthwise one of stride 2 and a 1x1 one,
  with batch norm and ReLU6. On every map two predictors, of codes and of logits: a 3x3 depthwise convolution with batch norm
  and ReLU6, and a 1x1 one with a bias. Extra rows scale with the network's width, as in the authors' code.

  Attributes:
    convention: a key of conventions.CONVENTIONS: the anchors of a cell, and all that the task does with codes and logits.
    extras: channels of the extra rows at width 1.0.
    class_bias: start of the bias of the logits. The authors' configuration has -4.6, which their code ignores for predictors
      with a depthwise convolution: 0 reproduces what they trained, -4.6 what they wrote.
  """

  name: ClassVar[str] = "ssdlite"
  task: ClassVar[str] = "detection"

  convention: str = "tensorflow"
  extras: tuple[int, ...] = (512, 256, 256, 128)
  class_bias: float = 0.0

  def validate(self, row: str, architecture: Network) -> None:
    """Raises ArchitectureError for a setting that is not possible, or a backbone without two maps for the head."""
    check_whole(row, "num_classes", architecture.num_classes)
    check_choice(row, "convention", self.convention, CONVENTIONS)
    if not isinstance(self.extras, tuple):
      fail(row, "extras", self.extras, "expected a tuple of channels")
    for channels in self.extras:
      check_whole(row, "extras", channels)
    check_range(row, "class_bias", self.class_bias, -100, 100)
    if min(n for found in self.maps(architecture) for n in sizes.sides(found.size)) < 1:
      why = f"the last map has no pixels with padding={architecture.padding!r}; expected a larger resolution"
      fail(architecture.name, "resolution", architecture.resolution, why)

  @property
  def rules(self) -> Convention:
    """The Convention of this name."""
    return CONVENTIONS[self.convention]

  def extra_channels(self, channels: float, architecture: Network) -> int:
    """Returns the channels of a convolution of an extra row, given those at width 1.0."""
    return max(LEAST, int(channels * architecture.width))

  def c4(self, architecture: Network) -> tuple[str, Size, int]:
    """Returns (name, size, channels) of the backbone's last map at stride 16.

    Raises:
      ArchitectureError: if there is none, or none after it.
    """
    stride, found = architecture.stem.stride, None
    size = sizes.divided(architecture.resolution, stride)
    for name, channels, block in architecture.rows():
      reached = stride
      for layer in block.layers(channels):
        reached *= layer.stride
        if layer.name == "expand" and reached == stride == 16:
          found = f"{name}/expand", size, block.expand
      stride, size = stride * block.stride, block.out_size(size, architecture.padding)
      if stride == 16:
        found = name, size, block.out
    if found is None or stride == 16:
      fail(architecture.name, "head", self.name, "it takes a map at stride 16 and one after it: output stride 32")
    return found

  def maps(self, architecture: Network) -> tuple[BoxMap, ...]:
    """Returns the maps whose cells have anchors, from the largest to the smallest.

    Raises:
      ArchitectureError: for a backbone without two maps for the head.
    """
    found = [("features", *architecture.last_map())]
    for i, channels in enumerate(self.extras):
      size = sizes.after_depthwise(found[-1][1], 2, architecture.padding)
      found.append((f"extra_{i}", size, self.extra_channels(channels, architecture)))
    return tuple(
      BoxMap(name=name, size=size, channels=channels, anchors=self.rules.anchors_per_cell(level))
      for level, (name, size, channels) in enumerate([self.c4(architecture), *found])
    )

  def anchors(self, architecture: Network) -> int:
    """Counts the anchors of all maps."""
    return sum(sizes.area(found.size) * found.anchors for found in self.maps(architecture))

  def layers(self, architecture: Network, size: Size, channels: int) -> tuple[HeadLayer, ...]:
    """Returns the extra rows, and for every map the predictors of codes and of logits."""
    maps = self.maps(architecture)
    found = [layer for i, each in enumerate(maps[1:-1]) for layer in self._extra(i, each, architecture)]
    for i, each in enumerate(maps):
      found += _predictor(f"boxes_{i}", "codes", each, BOX)
      found += _predictor(f"classes_{i}", "logits", each, 1 + architecture.num_classes, per_class=True)
    return tuple(found)

  def output_shape(self, architecture: Network) -> tuple[int, ...]:
    """Returns (anchors, 4 + 1 + num_classes): the numbers of codes and logits, which the network gives as two arrays."""
    return (self.anchors(architecture), BOX + 1 + architecture.num_classes)

  def __str__(self) -> str:
    return f"{self.name} of the {self.convention} convention"

  def _extra(self, i: int, before: BoxMap, architecture: Network) -> Iterator[HeadLayer]:
    """Yields the layers of an extra row, given the map before it."""
    size, row = before.size, f"extra_{i}"
    half = self.extra_channels(self.extras[i] / 2, architecture)
    after = sizes.after_depthwise(size, 2, architecture.padding)
    yield _layer(f"{row}/reduce", "conv", size, size, before.channels, half, takes=(before.name,))
    yield _layer(f"{row}/depthwise", "depthwise", size, after, half, half, kernel=3, stride=2)
    yield _layer(f"{row}/expand", "conv", after, after, half, self.extra_channels(self.extras[i], architecture))


def _layer(name: str, kind: str, size: Size, out_size: Size, inputs: int, outputs: int, **fields: Any) -> HeadLayer:
  """A convolution with batch norm and ReLU6, where `fields` say nothing else."""
  fields = {"activation": "relu6"} | fields
  return HeadLayer(name=name, kind=kind, in_size=size, out_size=out_size, in_channels=inputs, out_channels=outputs, **fields)


def _predictor(row: str, last: str, on: BoxMap, numbers: int, per_class: bool = False) -> tuple[HeadLayer, HeadLayer]:
  """A predictor of so many numbers for each anchor."""
  shared = {"activation": "linear", "norm": False, "per_class": per_class}
  return (
    _layer(f"{row}/depthwise", "depthwise", on.size, on.size, on.channels, on.channels, kernel=3, takes=(on.name,)),
    _layer(f"{row}/{last}", "conv", on.size, on.size, on.channels, on.anchors * numbers, **shared),
  )
