"""Wire format of Protocol Buffers: the fields of a message, without its schema.

Source: protobuf.dev/programming-guides/encoding.
"""

import struct
from collections.abc import Iterator
from typing import TypeAlias

# whole number of a varint, bytes of a string or an embedded message, 4 or 8 bytes of a fixed number
Value: TypeAlias = int | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED = {FIXED64: 8, FIXED32: 4}


def fields(message: memoryview) -> Iterator[tuple[int, int, Value]]:
  """Yields (field number, wire type, value) of a message, in its order.

  Raises:
    ValueError: for a message that is cut off or none; reads nothing outside of it.
  """
  at = 0
  while at < len(message):
    key, at = varint(message, at)
    number, wire = key >> 3, key & 7
    if not 0 < number < 2**29:
      raise ValueError(f"field number {number}")
    if wire == VARINT:
      value, at = varint(message, at)
      yield number, wire, value
      continue
    if wire == BYTES:
      length, at = varint(message, at)
    elif wire in FIXED:
      length = FIXED[wire]
    else:
      raise ValueError(f"wire type {wire} of field {number}")
    if length > len(message) - at:
      raise ValueError(f"field {number} has {length:,} bytes where {len(message) - at:,} are left")
    yield number, wire, message[at : at + length]
    at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
  """Returns (unsigned number of 64 bits, position after it)."""
  found = 0
  for i in range(10):
    if at + i >= len(message):
      raise ValueError("a number is cut off")
    byte = message[at + i]
    found |= (byte & 0x7F) << 7 * i
    if byte < 0x80:
      return found & 2**64 - 1, at + i + 1
  raise ValueError("a number has more than 10 bytes")


def signed(value: int) -> int:
  """Returns the int64 of a varint."""
  return value - 2**64 if value >= 2**63 else value


def varints(wire: int, value: Value) -> list[int]:
  """Returns the whole numbers of a repeated field, packed or a single one."""
  if not isinstance(value, memoryview):
    return [signed(value)]
  if wire != BYTES:
    raise ValueError(f"wire type {wire} of whole numbers")
  found, at = [], 0
  while at < len(value):
    number, at = varint(value, at)
    found.append(signed(number))
  return found


def text(value: Value) -> str:
  """Returns a string field."""
  return content(value).tobytes().decode()


def content(value: Value) -> memoryview:
  """Returns the bytes of a field; raises ValueError for a number."""
  if not isinstance(value, memoryview):
    raise ValueError(f"the number {value} in place of bytes")
  return value


def float32(value: Value) -> float:
  """Returns a float field."""
  return struct.unpack("<f", content(value))[0]
