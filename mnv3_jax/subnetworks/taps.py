"""Smaller kernels inside larger ones."""

from mnv3_jax.models.convolutions import pads


def taps(size: int, kernel: int, smaller: int, *, stride: int, dilation: int, padding: str) -> range:
  """Returns the taps of a kernel that read what a smaller kernel reads.

  Tap i of a kernel of k reads input `i * dilation + stride * h - low(k)` for output h, where low(k) zeros are before the axis.
  The taps are the central ones as long as the smaller kernel is 3 or larger; a kernel of 1 at stride 2 reads an axis of even
  size where the first tap of a 3x3 kernel does.

  Args:
    size: of the input along the axis.
    kernel, smaller: sizes of the kernels, odd.
    stride, dilation, padding: as of models.convolutions.convolution.

  Raises:
    ValueError: for a kernel that is not smaller, or none of whose taps can be aligned.
  """
  (low, _), (low_of_smaller, _) = (pads(size, k, stride, dilation, padding) for k in (kernel, smaller))
  first, rest = divmod(low - low_of_smaller, dilation)
  if rest or not 0 <= first <= kernel - smaller:
    raise ValueError(f"a kernel of {smaller} is not inside one of {kernel} at size {size}, stride {stride}, {padding!r}")
  return range(first, first + smaller)
