"""Foreign tensors to our variables and back, by a complete and strict table of names.

A source says where each layer of architectures/cost.py lies (a Place) and how its tensors are called and laid out (a Style).
"""

import copy
import dataclasses
from collections.abc import Callable

import numpy as np

from mnv3_jax.architectures import cost, fields, rows
from mnv3_jax.errors import UsageError

# names that a sentence about a file shows before it says "and so many more"
SHOWN = 4
# what a weight can be; bfloat16 is not NumPy's own
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a layer lies in a source's file.

  Attributes:
    layer: name of its convolution or fully connected layer.
    norm: name of its batch norm, None where there is none.
    as_conv: whether a layer that is fully connected here is a 1x1 convolution there.
  """

  layer: str
  norm: str | None = None
  as_conv: bool = False


@dataclasses.dataclass(frozen=True)
class Style:
  """How a framework calls and lays out the tensors of a layer.

  Attributes:
    leaves: our leaf ("kernel", "bias", "scale", "offset", "mean", "var"; scale and offset are batch norm's) to its name there.
    depthwise: name of a depthwise kernel, where it differs.
    conv, depthwise_axes, fc: transposition of a kernel from there to ours.
    joint: between a layer's name and its tensor's.
    ignored: endings of names that carry no weight of the network.
  """

  leaves: dict
  conv: tuple
  depthwise_axes: tuple
  fc: tuple
  joint: str
  depthwise: str | None = None
  ignored: tuple = ()


# (out, in / groups, height, width)
TORCH = Style(
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
TENSORFLOW = Style(
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A network as its source publishes it.

  Attributes:
    model: fields of config.model.
    view: fields of config.data that say what the network wants to see: mean, std, crop, interpolation.
    places: Architecture -> {layer name of architectures/cost.py: Place}.
    style: of its tensors.
    background: whether its first class of 1001 is none of ImageNet's; it is dropped then, as the ports of these weights do.
    gate: what its squeeze-excite gate is at most, where that is not 1; the projection's kernel takes it in, which is exact.
    classes: names by label, where they are not ImageNet's.
  """

  model: dict
  view: dict
  places: Callable
  style: Style
  background: bool = False
  gate: float = 1.0
  classes: tuple = ()

  def architecture(self, num_classes=None):
    """The network as a value."""
    a = fields.architecture(**self.model)
    return a if num_classes is None else a.replace(num_classes=num_classes)


@dataclasses.dataclass(frozen=True)
class _Entry:
  """One tensor: its path in our variables, its name there, and how it becomes ours."""

  path: tuple
  name: str
  axes: tuple | None
  shape: tuple
  as_conv: bool

  def ours(self, array):
    array = array if self.axes is None else array.transpose(self.axes)
    return np.ascontiguousarray(array.reshape(self.shape), np.float32)

  def theirs(self, array):
    if self.as_conv and array.ndim == 2:
      array = array[None, None]
    return np.ascontiguousarray(array if self.axes is None else array.transpose(np.argsort(self.axes)))

  @property
  def foreign_shape(self):
    shape = (1, 1, *self.shape) if self.as_conv and len(self.shape) == 2 else self.shape
    return shape if self.axes is None else tuple(shape[i] for i in np.argsort(self.axes))


def _entries(published, architecture):
  """Every tensor of a network, in the order of the data."""
  style, places, after = published.style, published.places(architecture), rows.after(architecture)
  found = []

  def add(path, name, shape, axes=None, as_conv=False):
    found.append(_Entry(path, name, axes, shape, as_conv))

  for layer in cost.layers(architecture):
    place = places[layer.name]
    path = tuple(layer.name.split("/"))
    path = path if path[0] in after else ("backbone", *path)
    if layer.kind == "depthwise":
      kernel, axes = style.depthwise or style.leaves["kernel"], style.depthwise_axes
    else:
      kernel, axes = style.leaves["kernel"], style.conv if layer.kind == "conv" or place.as_conv else style.fc
    inputs, outputs = 1 if layer.kind == "depthwise" else layer.in_channels, layer.out_channels
    shape = (inputs, outputs) if layer.kind == "fc" else (layer.kernel, layer.kernel, inputs, outputs)
    add(("params", *path, "kernel"), place.layer + style.joint + kernel, shape, axes, place.as_conv)
    if not layer.norm:
      if layer.bias:
        add(("params", *path, "bias"), place.layer + style.joint + style.leaves["bias"], (outputs,))
      continue
    for leaf, ours in (
      ("scale", ("params", *path, "bn", "scale")),
      ("offset", ("params", *path, "bn", "bias")),
      ("mean", ("batch_stats", *path, "bn", "mean")),
      ("var", ("batch_stats", *path, "bn", "var")),
    ):
      add(ours, place.norm + style.joint + style.leaves[leaf], (outputs,))
  return found


def _listed(names):
  names = list(names)
  return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _faults(entries, tensors, style):
  """What keeps tensors from being these entries, as phrases; [] where they are."""
  names = {e.name for e in entries}
  missing = [e.name for e in entries if e.name not in tensors]
  left_over = [n for n in tensors if n not in names and not n.endswith(style.ignored)]
  shaped = [e for e in entries if e.name in tensors and tensors[e.name].shape != e.foreign_shape]
  faults = []
  if missing:
    faults.append(f"{len(missing)} tensors are missing ({_listed(missing)})")
  if left_over:
    faults.append(f"{len(left_over)} are left over ({_listed(left_over)})")
  if shaped:
    phrases = [f"{e.name} is {tensors[e.name].shape} instead of {e.foreign_shape}" for e in shaped]
    faults.append(f"{len(shaped)} have another shape ({_listed(phrases)})")
  return faults


def _classes(published, tensors):
  """Width of the logits in a file; None if it has none."""
  a = published.architecture()
  bias = published.places(a)["logits"].layer + published.style.joint + published.style.leaves["bias"]
  return len(tensors[bias]) if bias in tensors and tensors[bias].ndim == 1 and len(tensors[bias]) else None


def fits(published, tensors):
  """Whether tensors are, name by name and shape by shape, those of a published network with any number of classes."""
  classes = _classes(published, tensors)
  return bool(classes) and not _faults(_entries(published, published.architecture(classes)), tensors, published.style)


def to_ours(published, tensors, what):
  """A file's tensors as variables.

  Args:
    published: what the file should hold.
    tensors: {name there: array}.
    what: the file and the network, for sentences.

  Returns:
    (Architecture with the file's number of classes, {"params", "batch_stats"} of float32 NumPy arrays).

  Raises:
    UsageError: for a tensor that is missing, left over, of another shape or not finite, or a variance below 0; names them.
  """
  classes = _classes(published, tensors)
  architecture = published.architecture(classes)
  entries = _entries(published, architecture)
  faults = _faults(entries, tensors, published.style)
  if faults:
    raise UsageError(f"{what}: {'; '.join(faults)}")
  odd = [f"{e.name} is {tensors[e.name].dtype}" for e in entries if str(tensors[e.name].dtype) not in FLOATS]
  if odd:
    raise UsageError(f"{what}: {len(odd)} tensors are no floating-point numbers ({_listed(odd)})")
  with np.errstate(over="ignore"):
    found = {e: e.ours(tensors[e.name]) for e in entries}
  broken = [e.name for e, a in found.items() if not np.isfinite(a).all()]
  negative = [e.name for e, a in found.items() if e.path[-1] == "var" and (a < 0).any()]
  if broken or negative:
    why = f"not finite: {_listed(broken)}" if broken else f"variances below 0: {_listed(negative)}"
    raise UsageError(f"{what}: its numbers are damaged; {why}")
  variables = {}
  for e, a in found.items():
    node = variables
    for key in e.path[:-1]:
      node = node.setdefault(key, {})
    node[e.path[-1]] = a
  _scale_gated(architecture, variables, published.gate)
  if published.background and classes == 1001:
    architecture = architecture.replace(num_classes=1000)
    variables["params"]["logits"] = {k: v[..., 1:] for k, v in variables["params"]["logits"].items()}
  return architecture, variables


def _scale_gated(architecture, variables, factor):
  """Multiplies the kernels behind squeeze-excite, in place."""
  for name, _, b in architecture.rows():
    if b.se is not None and factor != 1:
      project = variables["params"]["backbone"][name]["project"]
      project["kernel"] = project["kernel"] * np.float32(factor)


def to_theirs(published, architecture, variables):
  """Variables under the source's names and in its layout: {name: array}, what `to_ours` reads."""
  variables = copy.deepcopy(variables)
  _scale_gated(architecture, variables, 1 / published.gate)
  found = {}
  for e in _entries(published, architecture):
    leaf = variables
    for key in e.path:
      leaf = leaf[key]
    found[e.name] = e.theirs(np.asarray(leaf))
  return found
