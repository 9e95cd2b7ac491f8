"""Depthwise and pointwise convolution: one meaning, the fastest formulation for each backend.

- "plain": the grouped or ordinary convolution. What export and other frameworks understand, and cuDNN and the TPU have kernels
  for.
- "shifted": a depthwise convolution as a sum of shifted slices, with a gradient of its own: for the input one dense sum of
  shifts for each phase of the stride, for the weight all taps in one reduction. A pointwise one as a matrix product.
- "auto", the default: what FASTEST says of the backend.

On the CPU that matters: XLA's grouped convolution there is an order of magnitude slower forward, and more in its gradient.
benchmarks/convolutions.py measures all formulations, by shape, on whatever backend there is.

The gradient of "shifted" is reverse-mode only; forward-mode (`jax.jvp`) works with "plain".
"""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FORMULATIONS = ("auto", "plain", "shifted")
# By backend, since on the CPU the same one wins at every shape measured, in float32 (benchmarks/results/convolutions_cpu.md).
# TPU: plain, not measured: XLA has a lowering of its own for one channel a group, on the vector unit, and shifted slices would
# move whole maps across sublanes for every tap. GPU: plain, not measured.
FASTEST = {"cpu": "shifted"}


def chosen(formulation):
  """The formulation that "auto" is on the default backend; another one is itself.

  It is chosen where a function is traced: every formulation is right everywhere, and fast on its own backend.
  """
  if formulation not in FORMULATIONS:
    raise ValueError(f"formulation = {formulation!r} is not possible; choose one of {', '.join(FORMULATIONS)}")
  return FASTEST.get(jax.default_backend(), "plain") if formulation == "auto" else formulation


def pads(size, kernel, stride, dilation, padding):
  """(low, high) zeros around an axis of `size`: TensorFlow's SAME, or PyTorch's symmetric padding.

  Both give ceil(size / stride) outputs for the odd kernels used here.
  """
  reach = (kernel - 1) * dilation
  if padding == "symmetric":
    return reach // 2, reach // 2
  total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
  return total // 2, total - total // 2


def convolution(x_bhwc, w_hwio, *, stride=1, dilation=1, padding="same", groups=1):
  """The ordinary (or grouped) convolution.

  Args:
    x_bhwc: input (batch, height, width, channels).
    w_hwio: kernel (k, k, channels / groups, out).
    stride, dilation: of both axes.
    padding: "same" or "symmetric".
    groups: of channels.

  Returns:
    (batch, ceil(height / stride), ceil(width / stride), out), of x's dtype.
  """
  kernel = w_hwio.shape[0]
  return lax.conv_general_dilated(
    x_bhwc,
    w_hwio,
    window_strides=(stride, stride),
    padding=[pads(n, kernel, stride, dilation, padding) for n in x_bhwc.shape[1:3]],
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def pointwise(x_bhwc, w_11io, *, formulation="auto"):
  """1x1 convolution of stride 1: (batch, height, width, in) and (1, 1, in, out) to (batch, height, width, out)."""
  if chosen(formulation) == "plain":
    return convolution(x_bhwc, w_11io)
  *where, channels = x_bhwc.shape
  product = lax.dot(lax.reshape(x_bhwc, (math.prod(where), channels)), lax.squeeze(w_11io, (0, 1)))
  return lax.reshape(product, (*where, w_11io.shape[3]))


def depthwise(x_bhwc, w_hw1c, *, stride=1, dilation=1, padding="same", formulation="auto"):
  """Depthwise convolution: every channel with a kxk kernel of its own.

  Args:
    x_bhwc: input (batch, height, width, channels).
    w_hw1c: kernel (k, k, 1, channels), k odd.
    stride, dilation: of both axes.
    padding: "same" or "symmetric".
    formulation: one of FORMULATIONS.

  Returns:
    (batch, ceil(height / stride), ceil(width / stride), channels), of x's dtype.
  """
  if chosen(formulation) == "plain":
    groups = x_bhwc.shape[-1]
    return convolution(x_bhwc, w_hw1c, stride=stride, dilation=dilation, padding=padding, groups=groups)
  axes = tuple(_Axis(n, w_hw1c.shape[0], stride, dilation, padding) for n in x_bhwc.shape[1:3])
  return _shifted(x_bhwc, lax.squeeze(w_hw1c, (2,)), axes)


@dataclasses.dataclass(frozen=True)
class _Axis:
  """The arithmetic of one axis: where tap i of the kernel meets the input, and the input the taps.

  Output h reads padded input `i * dilation + stride * h`, which is input u = that - low.
  """

  size: int
  kernel: int
  stride: int
  dilation: int
  padding: str

  @property
  def pads(self):
    """(low, high)."""
    return pads(self.size, self.kernel, self.stride, self.dilation, self.padding)

  @property
  def out(self):
    """Outputs."""
    return -(-self.size // self.stride)

  @property
  def taps(self):
    """The taps that matter: one that only ever meets padding adds nothing (most of a 5x5 kernel on a 2x2 map)."""
    first = [i * self.dilation - self.pads[0] for i in range(self.kernel)]
    met = [any(0 <= u + self.stride * h < self.size for h in range(self.out)) for u in first]
    return [i for i in range(self.kernel) if met[i]]

  def read(self, x, axis, tap):
    """The padded input that `tap` multiplies: a strided slice of length `out`."""
    start = tap * self.dilation
    return lax.slice_in_dim(x, start, start + self.stride * (self.out - 1) + 1, self.stride, axis)

  def phase(self, rho):
    """Inputs u = stride * q + rho, q < count: (count, [(tap, h - q)]) for the taps that reach them."""
    count = -(-(self.size - rho) // self.stride)
    reached = [(i, rho + self.pads[0] - i * self.dilation) for i in self.taps]
    return count, [(i, offset // self.stride) for i, offset in reached if offset % self.stride == 0]


def _pad(x_bhwc, y, x):
  return lax.pad(x_bhwc, np.zeros((), x_bhwc.dtype), ((0, 0, 0), (*y, 0), (*x, 0), (0, 0, 0)))


def _wide(x):
  """bfloat16 is summed in float32."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return x if x.dtype == wide else lax.convert_element_type(x, wide)


def _tap(w_hwc, i, j, shape):
  """A tap of the kernel, as large as a map of `shape`."""
  tap = lax.slice(w_hwc, (i, j, 0), (i + 1, j + 1, w_hwc.shape[2]))
  return lax.broadcast_in_dim(_wide(lax.squeeze(tap, (0, 1))), shape, (3,))


def _dot(terms, w_hwc, dtype):
  """The sum of the products of (i, j, map) with the kernel's taps."""
  products = [lax.mul(_wide(x), _tap(w_hwc, i, j, x.shape)) for i, j, x in terms]
  return lax.convert_element_type(functools.reduce(lax.add, products), dtype)


def _under_taps(padded, axes):
  """Yields (i, j, the slice of the padded input under tap i, j) for every tap that matters."""
  y, x = axes
  rows = {i: y.read(padded, 1, i) for i in y.taps}
  for i, j in itertools.product(y.taps, x.taps):
    yield i, j, x.read(rows[i], 2, j)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x_bhwc, w_hwc, axes):
  return _shifted_fwd(x_bhwc, w_hwc, axes)[0]


def _shifted_fwd(x_bhwc, w_hwc, axes):
  # the padded input is what the gradient needs too: the map without padding need never be written
  padded = _pad(x_bhwc, *(a.pads for a in axes))
  return _dot(_under_taps(padded, axes), w_hwc, x_bhwc.dtype), (padded, w_hwc)


def _shifted_bwd(axes, saved, g_bhwc):
  padded, w_hwc = saved
  return _input_gradient(g_bhwc, w_hwc, axes), _weight_gradient(padded, g_bhwc, w_hwc, axes)


_shifted.defvjp(_shifted_fwd, _shifted_bwd)


def _input_gradient(g_bhwc, w_hwc, axes):
  """One dense sum of shifts for each phase of the stride; the phases are then woven together."""
  y, x = axes
  spans = []
  for a in axes:
    reads = [(h, h + count) for count, taps in map(a.phase, range(a.stride)) for _, h in taps]
    spans.append((max(0, -min(r[0] for r in reads)), max(0, max(r[1] for r in reads) - a.out)))
  padded = _pad(g_bhwc, *spans)
  batch, channels = g_bhwc.shape[0], g_bhwc.shape[3]
  (top, _), (left, _) = spans

  def phase(rho_y, rho_x):
    (rows, taps_y), (columns, taps_x) = y.phase(rho_y), x.phase(rho_x)
    terms = [
      (i, j, lax.slice(padded, (0, h + top, v + left, 0), (batch, h + top + rows, v + left + columns, channels)))
      for (i, h), (j, v) in itertools.product(taps_y, taps_x)
    ]
    if not terms:
      return jnp.zeros((batch, y.out, x.out, channels), g_bhwc.dtype)
    return _pad(_dot(terms, w_hwc, g_bhwc.dtype), (0, y.out - rows), (0, x.out - columns))

  if y.stride == 1:
    return phase(0, 0)
  rows = [jnp.stack([phase(p, q) for q in range(x.stride)], axis=3) for p in range(y.stride)]
  woven = jnp.stack(rows, axis=2).reshape(batch, y.out * y.stride, x.out * x.stride, channels)
  return woven[:, : y.size, : x.size]


def _weight_gradient(padded, g_bhwc, w_hwc, axes):
  """All taps' sums in one pass over the maps: a variadic reduction, which XLA's CPU turns into one loop nest for each image."""
  wide = _wide(g_bhwc)
  taps = [lax.mul(_wide(part), wide) for _, _, part in _under_taps(padded, axes)]
  sums = lax.reduce(taps, [np.zeros((), wide.dtype)] * len(taps), lambda a, b: tuple(map(lax.add, a, b)), dimensions=(1, 2))
  total = jnp.stack(sums).sum(1)
  rows, columns = np.array(list(itertools.product(axes[0].taps, axes[1].taps))).T
  return jnp.zeros(w_hwc.shape, total.dtype).at[rows, columns].set(total).astype(w_hwc.dtype)
