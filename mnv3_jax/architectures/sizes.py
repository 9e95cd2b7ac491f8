"""Sizes of images and maps: a whole number for a square, (height, width) for anything else."""


def of(height, width):
  """The size of so many pixels."""
  return height if height == width else (height, width)


def sides(size):
  """(height, width) of a size."""
  return (size, size) if isinstance(size, int) else size


def area(size):
  """Height times width."""
  height, width = sides(size)
  return height * width


def divided(size, stride):
  """The size of the map that a convolution of this stride makes: odd kernels, padded, give ceil(size / stride)."""
  return of(*(-(-n // stride) for n in sides(size)))


def text(size):
  """As the tables print it: "224²", "64×128"."""
  return f"{size}²" if isinstance(size, int) else "×".join(map(str, size))


def pixels(size):
  """In a sentence: "224 px", "1024x2048 px"."""
  return f"{size} px" if isinstance(size, int) else f"{size[0]}x{size[1]} px"
