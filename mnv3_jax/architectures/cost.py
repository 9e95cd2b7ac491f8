"""Parameters and multiply-adds per layer, exact, from the value alone.

Counting as the paper's field does: trainable parameters without batch-norm statistics; multiply-adds of convolutions and
fully connected layers, batch norm folded, activations and pooling free.
"""

import dataclasses

from mnv3_jax.architectures import sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
  """One convolution or fully connected layer.

  Attributes:
    name: where it stands, e.g. "block_04/depthwise"; the Flax module has the same path.
    kind: "conv", "depthwise" or "fc".
    kernel, stride, dilation: of the convolution; 1 for "fc".
    in_size, out_size: height and width of the maps (1 after pooling); (height, width) where they differ.
    in_channels, out_channels: of the maps.
    norm: whether batch norm follows (scale and bias counted, no convolution bias) or the layer has a bias of its own.
    bias: whether a layer without batch norm has that bias.
  """

  name: str
  kind: str
  in_size: int | tuple[int, int]
  out_size: int | tuple[int, int]
  in_channels: int
  out_channels: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  norm: bool = True
  bias: bool = True

  @property
  def weights(self):
    """Number of kernel weights."""
    per_output = 1 if self.kind == "depthwise" else self.in_channels
    return self.kernel**2 * per_output * self.out_channels

  @property
  def params(self):
    """Trainable parameters: the kernel, and batch norm's scale and bias or the layer's own bias."""
    return self.weights + self.out_channels * (2 if self.norm else int(self.bias))

  @property
  def madds(self):
    """Multiply-adds of one image."""
    return self.weights * sizes.area(self.out_size)


def layers(architecture):
  """The layers of an Architecture in the order of the data, as a tuple of Layer.

  Odd kernels with either padding give ceil(size / stride), so the counts do not depend on the padding.
  """
  a = architecture
  size, channels = a.resolution, a.in_channels
  found = []

  def add(name, kind, out_channels, *, stride=1, pooled=False, **fields):
    nonlocal size, channels
    in_size = 1 if pooled else size
    out_size = sizes.divided(in_size, stride)
    found.append(
      Layer(
        name=name,
        kind=kind,
        in_size=in_size,
        out_size=out_size,
        in_channels=channels,
        out_channels=out_channels,
        stride=stride,
        **fields,
      )
    )
    channels = out_channels
    if not pooled:
      size = out_size

  add("stem", "conv", a.stem.filters, kernel=a.stem.kernel, stride=a.stem.stride)
  for name, in_channels, b in a.rows():
    if b.expand != in_channels:
      add(f"{name}/expand", "conv", b.expand)
    add(f"{name}/depthwise", "depthwise", b.expand, kernel=b.kernel, stride=b.stride, dilation=b.dilation)
    if b.se is not None:
      add(f"{name}/se/reduce", "conv", b.se.channels(in_channels, b.expand), pooled=True, norm=False)
      add(f"{name}/se/expand", "conv", b.expand, pooled=True, norm=False)
    add(f"{name}/project", "conv", b.out)
  if a.head.features is not None:
    add("features", "conv", a.head.features)
  if a.segmenter:
    return (*found, *_segmenter(a, size, channels))
  if a.head.hidden is not None:
    add("hidden", "fc", a.head.hidden, pooled=True, norm=False)
  add("logits", "fc", a.num_classes, pooled=True, norm=False)
  return tuple(found)


def _segmenter(a, size, channels):
  """The layers after the backbone, whose last map has this size and these channels."""
  s, pooled = a.segmenter, a.segmenter.pooled(size)

  def conv(name, at, channels, out, norm):
    return Layer(name=name, kind="conv", in_size=at, out_size=at, in_channels=channels, out_channels=out, norm=norm)

  found = [conv("filter", size, channels, s.filters, True)]
  if s.head == "r_aspp":
    found += [conv("pooled", pooled, channels, s.filters, True), conv("merge", size, 2 * s.filters, s.filters, True)]
    return [*found, conv("logits", size, s.filters, a.num_classes, False)]
  _, stride, skipped = a.skip()
  eighth = sizes.divided(a.resolution, stride)
  gate = conv("gate", pooled, channels, s.filters, False)
  gate = gate if s.gate_bias else dataclasses.replace(gate, bias=False)
  return [
    *found,
    gate,
    conv("logits", eighth, s.filters, a.num_classes, False),
    conv("skip_logits", eighth, skipped, a.num_classes, False),
  ]


def params(architecture):
  """Trainable parameters of the whole network."""
  return sum(layer.params for layer in layers(architecture))


def madds(architecture):
  """Multiply-adds of one image through the whole network."""
  return sum(layer.madds for layer in layers(architecture))
