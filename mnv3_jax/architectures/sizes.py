"""Sizes of images and maps: a whole number for a square, (height, width) for anything else."""

from typing import TypeAlias

Size: TypeAlias = int | tuple[int, int]


def from_sides(height: int, width: int) -> Size:
  """Returns the size of a map of `height` by `width` pixels."""
  return height if height == width else (height, width)


def sides(size: Size) -> tuple[int, int]:
  """Returns (height, width)."""
  return (size, size) if isinstance(size, int) else size


def area(size: Size) -> int:
  """Returns height times width."""
  height, width = sides(size)
  return height * width


def aspect(size: Size) -> tuple[float, float]:
  """Returns (height, width) over the shorter side: (1.0, 1.0) of a square, (1.0, 1.5) of 64x96."""
  height, width = sides(size)
  shorter = min(height, width)
  return height / shorter, width / shorter


def divided(size: Size, stride: int) -> Size:
  """Returns the output size of a convolution with this stride: odd kernels, padded, give ceil(size / stride)."""
  return from_sides(*(-(-n // stride) for n in sides(size)))


def after_depthwise(size: Size, stride: int, padding: str) -> Size:
  """Returns the output size of a depthwise convolution: as `divided`, but floor(size / stride) with padding "keras_v1"."""
  return from_sides(*(n // stride for n in sides(size))) if padding == "keras_v1" else divided(size, stride)


def text(size: Size) -> str:
  """Formats a size as in the paper's tables: "224²", "64×128"."""
  return f"{size}²" if isinstance(size, int) else "×".join(map(str, size))


def pixels(size: Size) -> str:
  """Formats a size for a sentence: "224 px", "1024x2048 px"."""
  return f"{size} px" if isinstance(size, int) else f"{size[0]}x{size[1]} px"
