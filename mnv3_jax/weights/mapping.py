"""Conversion between the tensors of a source and Linen variables, by complete and strict name maps.

A source has names for each layer of architectures/cost.py (LayerNames), and names and axes for a layer's tensors (Layout).
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from mnv3_jax.architectures import cost, fields, rows
from mnv3_jax.architectures.spec import Architecture, ArchitectureError
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Variables
from mnv3_jax.weights.content import Tensors, Weight, shown
from mnv3_jax.weights.values import check_values, listed

# dtypes of weights; bfloat16 is not NumPy's own
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class LayerNames:
  """Names of a layer in a source.

  Attributes:
    layer: convolution or fully connected layer.
    norm: batch norm; None without one.
    as_conv: whether a layer that is fully connected here is a 1x1 convolution in the source.
  """

  layer: str
  norm: str | None = None
  as_conv: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
  """Names and axes of a layer's tensors in a framework.

  Attributes:
    leaves: name of each leaf ("kernel", "bias", "scale", "offset", "mean", "var"; scale and offset are batch norm's).
    conv, depthwise_axes, fc: transposition of the source's kernel to Linen's.
    joint: separator of a layer's name and its tensor's.
    depthwise: name of a depthwise kernel, where it differs.
    ignored: suffixes of names of tensors that are no weights of the network.
  """

  leaves: dict[str, str]
  conv: tuple[int, ...]
  depthwise_axes: tuple[int, ...]
  fc: tuple[int, ...]
  joint: str
  depthwise: str | None = None
  ignored: tuple[str, ...] = ()


# (out, in / groups, height, width)
TORCH = Layout(
  leaves={
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "offset": "bias",
    "mean": "running_mean",
    "var": "running_var",
  },
  conv=(2, 3, 1, 0),
  depthwise_axes=(2, 3, 1, 0),
  fc=(1, 0),
  joint=".",
  ignored=("num_batches_tracked",),
)

# (height, width, in, out), and (height, width, channels, 1) where depthwise
TENSORFLOW = Layout(
  leaves={
    "kernel": "kernel",
    "bias": "bias",
    "scale": "gamma",
    "offset": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
  },
  conv=(0, 1, 2, 3),
  depthwise_axes=(0, 1, 3, 2),
  fc=(0, 1),
  joint="/",
)


# fields of config.model of networks that end before their logits, or before the hidden layer too
HEADLESS: tuple[dict[str, Any], ...] = ({"num_classes": 0}, {"num_classes": 0, "head_hidden": 0})

# names of every layer of an Architecture, by its name in architectures/cost.py
NameMap: TypeAlias = Callable[[Architecture], dict[str, LayerNames]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """Network as its source publishes it.

  Attributes:
    model: fields of config.model.
    preprocessing: fields of config.data: mean, std, crop, interpolation.
    names: its name map.
    layout: of its tensors.
    background: whether the first of its 1001 classes is a background class, which is dropped, as ports of these weights do.
    gate: maximum of its squeeze-excite gate; other than 1, the projection's kernel is multiplied by it, which is exact.
    classes: names by label, where they are not ImageNet's.
    options: fields of config.model that the source's own function for this network takes as arguments.
    widths: values of the option "width" for which that function rounds channels as config.model.width_rule does; () for all.
    normalizes: whether that function builds a network that resizes images to the published resolution and normalizes them.
  """

  model: dict[str, Any]
  preprocessing: dict[str, Any]
  names: NameMap
  layout: Layout
  background: bool = False
  gate: float = 1.0
  classes: tuple[str, ...] = ()
  options: tuple[str, ...] = ()
  widths: tuple[float, ...] = ()
  normalizes: bool = False

  def architecture(self, num_classes: int | None = None) -> Architecture:
    """Builds the Architecture, with other classes than published where `num_classes` is given."""
    a = fields.architecture(**self.model)
    return a if num_classes is None else a.replace(num_classes=num_classes)


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """Path in the variables, name in the source, and conversion of one tensor.

  Attributes:
    path: keys in the variables.
    name: name in the source.
    axes: transposition of the source's array; None without one.
    shape: shape in the variables.
    as_conv: see LayerNames.
  """

  path: tuple[str, ...]
  name: str
  axes: tuple[int, ...] | None
  shape: tuple[int, ...]
  as_conv: bool

  def from_source(self, array: Weight) -> Float32[np.ndarray, "..."]:
    """Converts an array of the source."""
    array = array if self.axes is None else array.transpose(self.axes)
    return np.ascontiguousarray(array.reshape(self.shape), np.float32)

  def to_source(self, array: Weight) -> Weight:
    """Converts an array of the variables."""
    if self.as_conv and array.ndim == 2:
      array = array[None, None]
    return np.ascontiguousarray(array if self.axes is None else array.transpose(np.argsort(self.axes)))

  @property
  def source_shape(self) -> tuple[int, ...]:
    """Shape in the source."""
    shape = (1, 1, *self.shape) if self.as_conv and len(self.shape) == 2 else self.shape
    return shape if self.axes is None else tuple(shape[i] for i in np.argsort(self.axes))


def _tensors(published: Published, architecture: Architecture) -> list[_Tensor]:
  """Returns every tensor of a network, in the order of the data."""
  layout, names, after = published.layout, published.names(architecture), rows.after(architecture)
  found = []

  def add(
    path: tuple[str, ...], name: str, shape: tuple[int, ...], axes: tuple[int, ...] | None = None, as_conv: bool = False
  ) -> None:
    found.append(_Tensor(path, name, axes, shape, as_conv))

  for layer in cost.layers(architecture):
    layer_names = names[layer.name]
    path = tuple(layer.name.split("/"))
    path = path if path[0] in after else ("backbone", *path)
    if layer.kind == "depthwise":
      kernel, axes = layout.depthwise or layout.leaves["kernel"], layout.depthwise_axes
    else:
      kernel, axes = layout.leaves["kernel"], layout.conv if layer.kind == "conv" or layer_names.as_conv else layout.fc
    inputs, outputs = 1 if layer.kind == "depthwise" else layer.in_channels, layer.out_channels
    shape = (inputs, outputs) if layer.kind == "fc" else (layer.kernel, layer.kernel, inputs, outputs)
    add(("params", *path, "kernel"), layer_names.layer + layout.joint + kernel, shape, axes, layer_names.as_conv)
    if not layer.norm:
      if layer.bias:
        add(("params", *path, "bias"), layer_names.layer + layout.joint + layout.leaves["bias"], (outputs,))
      continue
    if layer_names.norm is None:
      raise ValueError(f"no name for the batch norm of {layer.name}")
    for leaf, leaf_path in (
      ("scale", ("params", *path, "bn", "scale")),
      ("offset", ("params", *path, "bn", "bias")),
      ("mean", ("batch_stats", *path, "bn", "mean")),
      ("var", ("batch_stats", *path, "bn", "var")),
    ):
      add(leaf_path, layer_names.norm + layout.joint + layout.leaves[leaf], (outputs,))
  return found


def tensor_names(published: Published) -> list[str]:
  """Returns the names of a network's tensors in its source."""
  return [tensor.name for tensor in _tensors(published, published.architecture())]


def headless(published: Published) -> list[Published]:
  """Returns a network without its logits, and without all layers of its head; [] where its head needs classes."""
  whole, found = published.architecture(), []
  for changes in HEADLESS:
    network = dataclasses.replace(
      published, model={**published.model, **changes}, names=lambda architecture: published.names(whole)
    )
    with contextlib.suppress(ArchitectureError):
      network.architecture()
      found.append(network)
  return found


def of_file(published: Published, tensors: Tensors) -> Published:
  """Returns a network with the classes that a file has, and without the last layers of the head where the file lacks them."""
  classes = _num_classes(published, tensors)
  if classes is not None:
    return dataclasses.replace(published, model={**published.model, "num_classes": classes})
  there = {row for row, prefix in _head_prefixes(published).items() if any(name.startswith(prefix) for name in tensors)}
  same = (network for network in headless(published) if set(_head_prefixes(network)) == there)
  return next(same, published)


def _head_prefixes(published: Published) -> dict[str, str]:
  """Returns what the names of the tensors of the head's layers begin with in the source, by layer."""
  a = published.architecture()
  names = published.names(a)
  return {x.name: names[x.name].layer + published.layout.joint for x in a.head_layers() if x.kind != "pool"}


def _differences(expected: list[_Tensor], tensors: Tensors, layout: Layout) -> list[str]:
  """Returns the differences of a file's tensors from the expected ones, as phrases."""
  names = {e.name for e in expected}
  missing = [e.name for e in expected if e.name not in tensors]
  left_over = [shown(n) for n in tensors if n not in names and not n.endswith(layout.ignored)]
  shaped = [e for e in expected if e.name in tensors and tensors[e.name].shape != e.source_shape]
  found = []
  if missing:
    found.append(f"{len(missing)} tensors are missing ({listed(missing)})")
  if left_over:
    found.append(f"{len(left_over)} are left over ({listed(left_over)})")
  if shaped:
    phrases = [f"{e.name} is {tensors[e.name].shape} instead of {e.source_shape}" for e in shaped]
    found.append(f"{len(shaped)} have another shape ({listed(phrases)})")
  return found


def _num_classes(published: Published, tensors: Tensors) -> int | None:
  """Returns the number of classes of the weights in a file by the first layer that has a width for each; None without it."""
  one, two = (published.architecture(n) for n in (1, 2))
  name = rows.per_class(one)[0]
  bias = published.names(one)[name].layer + published.layout.joint + published.layout.leaves["bias"]
  if bias not in tensors or tensors[bias].ndim != 1:
    return None
  least, next_one = (layer.out_channels for a in (one, two) for layer in cost.layers(a) if layer.name == name)
  classes, rest = divmod(len(tensors[bias]) - least, next_one - least)
  return None if rest or classes < 0 else 1 + classes


def fits(published: Published, tensors: Tensors) -> bool:
  """Returns whether tensors have the names and shapes of a published network with any number of classes, or headless."""
  network = of_file(published, tensors)
  return not _differences(_tensors(network, network.architecture()), tensors, network.layout)


def from_source(published: Published, tensors: Tensors, context: str) -> tuple[Architecture, dict[str, Any]]:
  """Converts a file's tensors to variables.

  Args:
    published: the expected network, with any number of classes or without its head.
    tensors: arrays under the source's names.
    context: the file and the network, which error messages start with.

  Returns:
    (Architecture, {"params", "batch_stats"} of float32 NumPy arrays); a background class is dropped.

  Raises:
    UsageError: for a tensor that is missing, left over, of another shape or not finite, or a variance below 0; names them.
  """
  published = of_file(published, tensors)
  architecture = published.architecture()
  expected = _tensors(published, architecture)
  differences = _differences(expected, tensors, published.layout)
  if differences:
    raise UsageError(f"{context}: {'; '.join(differences)}")
  # by name: NumPy writes the dtype of another byte order as >f4
  odd = [f"{e.name} is {tensors[e.name].dtype}" for e in expected if tensors[e.name].dtype.name not in FLOATS]
  if odd:
    raise UsageError(f"{context}: {len(odd)} tensors are no floating-point numbers ({listed(odd)})")
  with np.errstate(over="ignore"):
    found = {e: e.from_source(tensors[e.name]) for e in expected}
  check_values({e.name: a for e, a in found.items()}, {e.name for e in expected if e.path[-1] == "var"}, context)
  variables: dict[str, Any] = {}
  for e, a in found.items():
    node = variables
    for key in e.path[:-1]:
      node = node.setdefault(key, {})
    node[e.path[-1]] = a
  _scale_gated(architecture, variables, published.gate)
  if published.background and architecture.num_classes == 1001:
    architecture = architecture.replace(num_classes=1000)
    variables["params"]["logits"] = {k: v[..., 1:] for k, v in variables["params"]["logits"].items()}
  return architecture, variables


def _scale_gated(architecture: Architecture, variables: Mapping[str, Any], factor: float) -> None:
  """Multiplies the kernels after squeeze-excite in place."""
  for name, _, b in architecture.rows():
    if b.se is not None and factor != 1:
      project = variables["params"]["backbone"][name]["project"]
      project["kernel"] = project["kernel"] * np.float32(factor)


def to_source(published: Published, architecture: Architecture, variables: Variables) -> Tensors:
  """Converts variables to tensors under the source's names and in its layout; inverts `from_source`."""
  variables = copy.deepcopy(variables)
  _scale_gated(architecture, variables, 1 / published.gate)
  found = {}
  for e in _tensors(published, architecture):
    leaf: Any = variables
    for key in e.path:
      leaf = leaf[key]
    found[e.name] = e.to_source(np.asarray(leaf))
  return found
