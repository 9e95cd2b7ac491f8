"""Convolutions of the layers, each in the fastest formulation for the platform.

- "plain": the grouped or ordinary convolution, for export and other frameworks; cuDNN has kernels for it.
- "shifted": a depthwise convolution as a sum of shifted slices, with a gradient of its own: for the input one sum of
  shifts for each phase of the stride, for the weight all taps in one reduction. A pointwise one as a matrix product. That of an
  image, which has few channels, as a sum of shifted channels.
- "diagonal": a depthwise convolution of groups of GROUP channels, with zeros beside the diagonal of each; for batches of LANES.
- "auto", the default: the entry of FASTEST for the platform; "plain" elsewhere.

On the CPU that matters: XLA's grouped convolution there is an order of magnitude slower forward, and more in its gradient.
benchmarks/convolutions.py measures all formulations, by shape, on the default backend; benchmarks/tpu_convolutions.py has the
estimates of the compiler for TPU.

The gradients of "auto" and "shifted" are reverse-mode only; forward-mode (`jax.jvp`) works with "plain".
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mnv3_jax.models.platforms import by_platform

FORMULATIONS = ("auto", "plain", "shifted", "diagonal")
# On the CPU the same one wins at every shape measured, in float32 (benchmarks/results/convolutions_cpu.md). For TPU by the
# compiler's estimates (benchmarks/results/tpu_convolutions.json), where one channel a group is slower, and shifted slices would
# move whole maps across sublanes for every tap. GPU: plain, not measured.
FASTEST = {"cpu": "shifted", "tpu": "diagonal"}
# channels of a group of "diagonal", the sublanes of a TPU: 4 and 16 take more cycles, by the estimate
GROUP = 8
# images of which a batch must be a multiple: XLA lays the maps of others out with channels last, and takes the more for groups
LANES = 128
# the most channels of an image that a stem takes one by one
FEW_CHANNELS = 4

_Form: TypeAlias = Callable[[Array, Array], Array]


def _form(formulation: str, platform: str | None, **forms: _Form) -> _Form:
  """Returns one of the forms, "plain" where there is none of that name; for "auto" the fastest for the platform."""
  if formulation not in FORMULATIONS:
    raise ValueError(f"invalid formulation={formulation!r}; choose one of {', '.join(FORMULATIONS)}")
  if formulation != "auto":
    return forms.get(formulation, forms["plain"])
  fastest = {where: forms[name] for where, name in FASTEST.items() if name in forms}
  return by_platform(platform, forms["plain"], **fastest)


def pads(size: int, kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
  """Returns (low, high) zeros around an axis of `size`: TensorFlow's SAME, or PyTorch's symmetric padding.

  Both give ceil(size / stride) outputs for the odd kernels used here. "keras_v1" is SAME; at stride 2 it pads as SAME pads an
  axis of even size, which gives floor(size / 2) outputs.
  """
  reach = (kernel - 1) * dilation
  if padding == "symmetric":
    return reach // 2, reach // 2
  if padding == "keras_v1":
    size -= size % stride
  total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
  return total // 2, total - total // 2


def convolution(
  x_bhwc: Float[Array | np.ndarray, "b h w c"],
  w_hwio: Float[Array | np.ndarray, "k k group_c out"],
  *,
  stride: int = 1,
  dilation: int = 1,
  padding: str = "same",
  groups: int = 1,
) -> Float[Array, "b out_h out_w out"]:
  """Computes the ordinary (or grouped) convolution.

  Args:
    x_bhwc: input (batch, height, width, channels).
    w_hwio: kernel (k, k, channels / groups, out).
    stride, dilation: of both axes.
    padding: "same", "symmetric" or "keras_v1"; see `pads`.
    groups: of channels.

  Returns:
    (batch, ceil(height / stride), ceil(width / stride), out), of x's dtype; with "keras_v1" the sizes are rounded down.
  """
  kernel = w_hwio.shape[0]
  return lax.conv_general_dilated(
    jnp.asarray(x_bhwc),
    jnp.asarray(w_hwio),
    window_strides=(stride, stride),
    padding=[pads(n, kernel, stride, dilation, padding) for n in x_bhwc.shape[1:3]],
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def stem(
  x_bhwc: Float[Array | np.ndarray, "b h w c"],
  w_hwio: Float[Array | np.ndarray, "k k c out"],
  *,
  stride: int = 1,
  padding: str = "same",
  formulation: str = "auto",
  platform: str | None = None,
) -> Float[Array, "b out_h out_w out"]:
  """Computes the ordinary convolution of an image, which has few channels; its arguments are those of `depthwise`."""
  form = _form(
    formulation if x_bhwc.shape[-1] <= FEW_CHANNELS else "plain",
    platform,
    plain=functools.partial(convolution, stride=stride, padding=padding),
    shifted=lambda x, w: _of_few_channels(x, w, stride, padding),
  )
  return form(jnp.asarray(x_bhwc), jnp.asarray(w_hwio))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _of_few_channels(x_bhwc: Array, w_hwio: Array, stride: int, padding: str) -> Array:
  """Sums, for each tap and input channel, the shifted channel times the weights of all outputs."""
  k, _, channels, features = w_hwio.shape
  axes = [_Axis(n, k, stride, 1, padding) for n in x_bhwc.shape[1:3]]
  padded, shape = _pad(x_bhwc, *(a.pads for a in axes)), (x_bhwc.shape[0], *(a.out for a in axes), features)
  terms = []
  for i, j, x in _under_taps(padded, (axes[0], axes[1])):
    for c in range(channels):
      channel = lax.squeeze(lax.slice_in_dim(x, c, c + 1, axis=3), (3,))
      weights = lax.squeeze(lax.slice(w_hwio, (i, j, c, 0), (i + 1, j + 1, c + 1, features)), (0, 1, 2))
      terms.append(lax.broadcast_in_dim(_wide(channel), shape, (0, 1, 2)) * lax.broadcast_in_dim(_wide(weights), shape, (3,)))
  return lax.convert_element_type(functools.reduce(lax.add, terms), x_bhwc.dtype)


def _of_few_channels_fwd(x: Array, w: Array, stride: int, padding: str) -> tuple[Array, tuple[Array, Array]]:
  return _of_few_channels(x, w, stride, padding), (x, w)


def _of_few_channels_bwd(stride: int, padding: str, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
  # that of the ordinary convolution is the faster one
  _, back = jax.vjp(functools.partial(convolution, stride=stride, padding=padding), *saved)
  return back(g)


_of_few_channels.defvjp(_of_few_channels_fwd, _of_few_channels_bwd)


def pointwise(
  x_bhwc: Float[Array | np.ndarray, "b h w c"],
  w_11io: Float[Array | np.ndarray, "1 1 c out"],
  *,
  formulation: str = "auto",
  platform: str | None = None,
) -> Float[Array, "b h w out"]:
  """Computes the 1x1 convolution of stride 1; formulation and platform as of `depthwise`."""
  form = _form(formulation, platform, plain=convolution, shifted=_product)
  return form(jnp.asarray(x_bhwc), jnp.asarray(w_11io))


def _product(x_bhwc: Array, w_11io: Array) -> Array:
  *where, channels = x_bhwc.shape
  product = lax.dot(lax.reshape(x_bhwc, (math.prod(where), channels)), lax.squeeze(w_11io, (0, 1)))
  return lax.reshape(product, (*where, w_11io.shape[3]))


def depthwise(
  x_bhwc: Float[Array | np.ndarray, "b h w c"],
  w_hw1c: Float[Array | np.ndarray, "k k 1 c"],
  *,
  stride: int = 1,
  dilation: int = 1,
  padding: str = "same",
  formulation: str = "auto",
  platform: str | None = None,
) -> Float[Array, "b out_h out_w c"]:
  """Computes the depthwise convolution: every channel with a kxk kernel of its own.

  Args:
    x_bhwc: input (batch, height, width, channels).
    w_hw1c: kernel (k, k, 1, channels), k odd.
    stride, dilation: of both axes.
    padding: as of `convolution`.
    formulation: one of FORMULATIONS.
    platform: of the devices for which it is compiled ("cpu", "gpu" or "tpu"); None for those that run it.

  Returns:
    (batch, ceil(height / stride), ceil(width / stride), channels), of x's dtype; with "keras_v1" the sizes are rounded down.
  """
  channels = x_bhwc.shape[-1]
  axes = tuple(_Axis(n, w_hw1c.shape[0], stride, dilation, padding) for n in x_bhwc.shape[1:3])
  batch = x_bhwc.shape[0]
  # a symbolic batch, of an export, is no number; NetAdapt leaves any number of channels
  fits = isinstance(batch, int) and batch % LANES == 0 and channels % GROUP == 0
  options: Any = {"stride": stride, "dilation": dilation, "padding": padding}
  plain = functools.partial(convolution, groups=channels, **options)
  form = _form(
    formulation,
    platform,
    plain=plain,
    shifted=lambda x, w: _shifted(x, lax.squeeze(w, (2,)), axes),
    diagonal=functools.partial(in_groups, size=GROUP, **options) if fits else plain,
  )
  return form(jnp.asarray(x_bhwc), jnp.asarray(w_hw1c))


def in_groups(
  x_bhwc: Float[Array, "b h w c"],
  w_hw1c: Float[Array, "k k 1 c"],
  size: int,
  *,
  stride: int = 1,
  dilation: int = 1,
  padding: str = "same",
) -> Float[Array, "b out_h out_w c"]:
  """Computes a depthwise convolution as one of groups of `size` channels, a divisor of all, with zeros beside the diagonal.

  The other arguments and the result are those of `depthwise`.
  """
  groups = x_bhwc.shape[-1] // size
  # output i of a group reads input i alone
  own = jnp.tile(jnp.eye(size, dtype=w_hw1c.dtype), groups)
  return convolution(x_bhwc, w_hw1c * own, stride=stride, dilation=dilation, padding=padding, groups=groups)


@dataclasses.dataclass(frozen=True)
class _Axis:
  """Arithmetic of one axis: the inputs of tap i of the kernel, and the taps that reach an input.

  Output h reads padded input `i * dilation + stride * h`, which is input u = that - low.
  """

  size: int
  kernel: int
  stride: int
  dilation: int
  padding: str

  @property
  def pads(self) -> tuple[int, int]:
    """(low, high) zeros around the axis."""
    return pads(self.size, self.kernel, self.stride, self.dilation, self.padding)

  @property
  def out(self) -> int:
    """Number of outputs."""
    return (self.size + sum(self.pads) - (self.kernel - 1) * self.dilation - 1) // self.stride + 1

  @property
  def steps(self) -> int:
    """Number of inputs of the first phase of the stride, the longest."""
    return -(-self.size // self.stride)

  @property
  def taps(self) -> list[int]:
    """Taps that reach the input: one that only ever meets padding adds nothing (most of a 5x5 kernel on a 2x2 map)."""
    first = [i * self.dilation - self.pads[0] for i in range(self.kernel)]
    met = [any(0 <= u + self.stride * h < self.size for h in range(self.out)) for u in first]
    return [i for i in range(self.kernel) if met[i]]

  def read(self, x: Array, axis: int, tap: int) -> Array:
    """Returns the padded input that `tap` multiplies: a strided slice of length `out`."""
    start = tap * self.dilation
    return lax.slice_in_dim(x, start, start + self.stride * (self.out - 1) + 1, self.stride, axis)

  def phase(self, rho: int) -> tuple[int, list[tuple[int, int]]]:
    """Returns, for inputs u = stride * q + rho, q < count: (count, [(tap, h - q)]) for the taps that reach them."""
    count = -(-(self.size - rho) // self.stride)
    reached = [(i, rho + self.pads[0] - i * self.dilation) for i in self.taps]
    return count, [(i, offset // self.stride) for i, offset in reached if offset % self.stride == 0]


def _pad(x_bhwc: Array, y: tuple[int, int], x: tuple[int, int]) -> Array:
  return lax.pad(x_bhwc, np.zeros((), x_bhwc.dtype), ((0, 0, 0), (*y, 0), (*x, 0), (0, 0, 0)))


def _wide(x: Array) -> Array:
  """Converts bfloat16 to float32, for sums."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return x if x.dtype == wide else lax.convert_element_type(x, wide)


def _tap(w_hwc: Array, i: int, j: int, shape: tuple[int, ...]) -> Array:
  """Broadcasts a tap of the kernel to a map of `shape`."""
  tap = lax.slice(w_hwc, (i, j, 0), (i + 1, j + 1, w_hwc.shape[2]))
  return lax.broadcast_in_dim(_wide(lax.squeeze(tap, (0, 1))), shape, (3,))


def _dot(terms: Iterable[tuple[int, int, Array]], w_hwc: Array, dtype: jnp.dtype) -> Array:
  """Sums the products of (i, j, map) with the kernel's taps."""
  products = [lax.mul(_wide(x), _tap(w_hwc, i, j, x.shape)) for i, j, x in terms]
  return lax.convert_element_type(functools.reduce(lax.add, products), dtype)


def _under_taps(padded: Array, axes: tuple[_Axis, _Axis]) -> Iterator[tuple[int, int, Array]]:
  """Yields (i, j, the slice of the padded input under tap i, j) for every tap that reaches the input."""
  y, x = axes
  rows = {i: y.read(padded, 1, i) for i in y.taps}
  for i, j in itertools.product(y.taps, x.taps):
    yield i, j, x.read(rows[i], 2, j)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x_bhwc: Array, w_hwc: Array, axes: tuple[_Axis, _Axis]) -> Array:
  return _shifted_fwd(x_bhwc, w_hwc, axes)[0]


def _shifted_fwd(x_bhwc: Array, w_hwc: Array, axes: tuple[_Axis, _Axis]) -> tuple[Array, tuple[Array, Array]]:
  # the padded input is what the gradient needs too: the map without padding need never be written
  padded = _pad(x_bhwc, *(a.pads for a in axes))
  return _dot(_under_taps(padded, axes), w_hwc, x_bhwc.dtype), (padded, w_hwc)


def _shifted_bwd(axes: tuple[_Axis, _Axis], saved: tuple[Array, Array], g_bhwc: Array) -> tuple[Array, Array]:
  padded, w_hwc = saved
  return _input_gradient(g_bhwc, w_hwc, axes), _weight_gradient(padded, g_bhwc, w_hwc, axes)


_shifted.defvjp(_shifted_fwd, _shifted_bwd)


def _input_gradient(g_bhwc: Array, w_hwc: Array, axes: tuple[_Axis, _Axis]) -> Array:
  """Computes one sum of shifts for each phase of the stride; the phases are then woven together."""
  y, x = axes
  spans = []
  for a in axes:
    reads = [(h, h + count) for count, taps in map(a.phase, range(a.stride)) for _, h in taps]
    spans.append((max(0, -min(r[0] for r in reads)), max(0, max(r[1] for r in reads) - a.out)))
  padded = _pad(g_bhwc, *spans)
  batch, channels = g_bhwc.shape[0], g_bhwc.shape[3]
  (top, _), (left, _) = spans

  def phase(rho_y: int, rho_x: int) -> Array:
    (rows, taps_y), (columns, taps_x) = y.phase(rho_y), x.phase(rho_x)
    terms = [
      (i, j, lax.slice(padded, (0, h + top, v + left, 0), (batch, h + top + rows, v + left + columns, channels)))
      for (i, h), (j, v) in itertools.product(taps_y, taps_x)
    ]
    if not terms:
      return jnp.zeros((batch, y.steps, x.steps, channels), g_bhwc.dtype)
    return _pad(_dot(terms, w_hwc, g_bhwc.dtype), (0, y.steps - rows), (0, x.steps - columns))

  if y.stride == 1:
    return phase(0, 0)
  rows = [jnp.stack([phase(p, q) for q in range(x.stride)], axis=3) for p in range(y.stride)]
  woven = jnp.stack(rows, axis=2).reshape(batch, y.steps * y.stride, x.steps * x.stride, channels)
  return woven[:, : y.size, : x.size]


def _weight_gradient(padded: Array, g_bhwc: Array, w_hwc: Array, axes: tuple[_Axis, _Axis]) -> Array:
  """Computes all taps' sums in one pass over the maps: a variadic reduction, on XLA's CPU one loop nest for each image."""
  wide = _wide(g_bhwc)
  taps = [lax.mul(_wide(part), wide) for _, _, part in _under_taps(padded, axes)]
  sums = lax.reduce(taps, [np.zeros((), wide.dtype)] * len(taps), lambda a, b: tuple(map(lax.add, a, b)), dimensions=(1, 2))
  total = jnp.stack(sums).sum(1)
  rows, columns = np.array(list(itertools.product(axes[0].taps, axes[1].taps))).T
  return jnp.zeros(w_hwc.shape, total.dtype).at[rows, columns].set(total).astype(w_hwc.dtype)
