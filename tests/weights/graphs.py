"""Writes frozen graphs of TensorFlow (binary GraphDef) for tests, without TensorFlow."""

import numpy as np

NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}


def varint(n):
  n &= 2**64 - 1
  found = b""
  while True:
    found += bytes([n & 0x7F | (0x80 if n > 0x7F else 0)])
    n >>= 7
    if not n:
      return found


def field(number, value):
  """A field: bytes, text or a whole number."""
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  value = value.encode() if isinstance(value, str) else value
  return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(array, values=None, shape=None):
  """A TensorProto: raw content, or the given message of single values."""
  sides = b"".join(field(2, field(1, side)) for side in (array.shape if shape is None else shape))
  content = field(4, array.tobytes()) if values is None else values
  return field(1, NUMBERS[array.dtype.name]) + field(2, sides) + content


def node(name, op, inputs=(), **attributes):
  """A NodeDef in a GraphDef; attributes are messages AttrValue."""
  found = field(1, name) + field(2, op) + b"".join(field(3, i) for i in inputs)
  return field(1, found + b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items()))


def constant(name, message):
  """A node Const, and the Identity that reads it."""
  return node(name, "Const", value=field(8, message)) + node(f"{name}/read", "Identity", [name])


def graph(tensors):
  """A graph of constants."""
  start = node("image_tensor", "Placeholder", dtype=field(6, 4))
  return start + b"".join(constant(name, tensor(np.asarray(a, order="C"))) for name, a in tensors.items())
