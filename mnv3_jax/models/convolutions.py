"""Depthwise and pointwise convolution: one meaning, the fastest formulation for each backend.

`formulation="plain"` is the grouped or ordinary convolution: what export and other frameworks understand. `"auto"`, the
default, is the same function computed as the backend likes it. On the CPU that matters: XLA's grouped convolution there is an
order of magnitude slower forward, and more in its gradient, than sums of shifted slices.

The custom gradient is reverse-mode only; forward-mode (`jax.jvp`) works with formulation="plain".
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FORMULATIONS = ("auto", "plain")


def _is_plain(formulation):
  if formulation not in FORMULATIONS:
    raise ValueError(f"formulation = {formulation!r} is not possible; choose one of {', '.join(FORMULATIONS)}")
  return formulation == "plain"


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
  if _is_plain(formulation):
    return convolution(x_bhwc, w_11io)

  def product(x, w):
    *where, channels = x.shape
    return (x.reshape(-1, channels) @ w[0, 0]).reshape(*where, -1)

  return lax.platform_dependent(x_bhwc, w_11io, cpu=product, default=convolution)


def depthwise(x_bhwc, w_hw1c, *, stride=1, dilation=1, padding="same", formulation="auto"):
  """Depthwise convolution: every channel with a kxk kernel of its own.

  Args:
    x_bhwc: input (batch, height, width, channels).
    w_hw1c: kernel (k, k, 1, channels), k odd.
    stride, dilation: of both axes.
    padding: "same" or "symmetric".
    formulation: "auto" or "plain".

  Returns:
    (batch, ceil(height / stride), ceil(width / stride), channels), of x's dtype.
  """
  plain = functools.partial(convolution, stride=stride, dilation=dilation, padding=padding, groups=x_bhwc.shape[-1])
  if _is_plain(formulation):
    return plain(x_bhwc, w_hw1c)
  axes = tuple(_Axis(n, w_hw1c.shape[0], stride, dilation, padding) for n in x_bhwc.shape[1:3])

  def shifted(x, w):
    return _shifted(x, w[:, :, 0], axes)

  return lax.platform_dependent(x_bhwc, w_hw1c, cpu=shifted, default=plain)


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
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _dot(pairs, dtype):
  """The sum of products of (x, w) pairs."""
  return functools.reduce(jnp.add, (_wide(x) * _wide(w) for x, w in pairs)).astype(dtype)


def _under_taps(x_bhwc, axes):
  """Yields (i, j, the slice of the padded input under tap i, j) for every tap that matters."""
  y, x = axes
  padded = _pad(x_bhwc, y.pads, x.pads)
  rows = {i: y.read(padded, 1, i) for i in y.taps}
  for i, j in itertools.product(y.taps, x.taps):
    yield i, j, x.read(rows[i], 2, j)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x_bhwc, w_hwc, axes):
  return _dot(((part, w_hwc[i, j]) for i, j, part in _under_taps(x_bhwc, axes)), x_bhwc.dtype)


def _shifted_fwd(x_bhwc, w_hwc, axes):
  return _shifted(x_bhwc, w_hwc, axes), (x_bhwc, w_hwc)


def _shifted_bwd(axes, saved, g_bhwc):
  x_bhwc, w_hwc = saved
  return _input_gradient(g_bhwc, w_hwc, axes), _weight_gradient(x_bhwc, g_bhwc, w_hwc, axes)


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
      (lax.slice(padded, (0, h + top, v + left, 0), (batch, h + top + rows, v + left + columns, channels)), w_hwc[i, j])
      for (i, h), (j, v) in itertools.product(taps_y, taps_x)
    ]
    if not terms:
      return jnp.zeros((batch, y.out, x.out, channels), g_bhwc.dtype)
    return _pad(_dot(terms, g_bhwc.dtype), (0, y.out - rows), (0, x.out - columns))

  if y.stride == 1:
    return phase(0, 0)
  rows = [jnp.stack([phase(p, q) for q in range(x.stride)], axis=3) for p in range(y.stride)]
  woven = jnp.stack(rows, axis=2).reshape(batch, y.out * y.stride, x.out * x.stride, channels)
  return woven[:, : y.size, : x.size]


def _weight_gradient(x_bhwc, g_bhwc, w_hwc, axes):
  """All taps' sums in one pass over each image: a variadic reduction, which XLA's CPU turns into one loop nest."""

  def add(left, right):
    return tuple(a + b for a, b in zip(left, right, strict=True))

  def image(total, xg):
    x_hwc, g_hwc = xg
    taps = [_wide(part[0]) * _wide(g_hwc) for _, _, part in _under_taps(x_hwc[None], axes)]
    sums = lax.reduce(taps, [np.zeros((), t.dtype) for t in taps], add, dimensions=(0, 1))
    return total + jnp.stack(sums), None

  rows, columns = np.array(list(itertools.product(axes[0].taps, axes[1].taps))).T
  start = jnp.zeros((len(rows), w_hwc.shape[-1]), _wide(g_bhwc[0, 0, 0]).dtype)
  total, _ = lax.scan(image, start, (x_bhwc, g_bhwc))
  return jnp.zeros(w_hwc.shape, start.dtype).at[rows, columns].set(total).astype(w_hwc.dtype)
