"""Frozen graphs of TensorFlow (a binary GraphDef, .pb): nodes, their attributes and constants, without TensorFlow.

Nothing in a graph is run. Source: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
"""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import protobuf
from mnv3_jax.weights.content import MAX_BYTES, Tensors, Weight, check_bytes, shown
from mnv3_jax.weights.protobuf import Value

# number in DataType: dtype, and the field of TensorProto that lists single values
DTYPES: dict[int, tuple[Any, int]] = {
  1: (np.float32, 5),
  2: (np.float64, 6),
  3: (np.int32, 7),
  4: (np.uint8, 7),
  6: (np.int8, 7),
  9: (np.int64, 10),
  10: (np.bool_, 11),
  14: (ml_dtypes.bfloat16, 13),
  19: (np.float16, 13),
}
# TensorFlow's own limit
MAX_RANK = 254


@dataclasses.dataclass(frozen=True)
class Node:
  """Operation of a graph.

  Attributes:
    name: of it, unique.
    op: its operation, e.g. "Conv2D".
    inputs: "NODE", "NODE:OUTPUT" or, of a control input, "^NODE".
    attributes: as messages AttrValue; `attribute` decodes one.
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  attributes: Mapping[str, memoryview]

  def attribute(self, name: str) -> Any:
    """Returns an attribute: bytes, int, float, bool, list of int, number of a DataType, array, or None where it is absent.

    Raises:
      ValueError: for an attribute that is malformed, or of another type.
    """
    return _attribute(self.attributes[name]) if name in self.attributes else None


def read_nodes(path: pathlib.Path) -> list[Node]:
  """Reads the nodes of a frozen graph.

  Raises:
    UsageError: if a name is there twice, or the file is larger than any network here.
    ValueError: if the file is malformed.
  """
  check_bytes(path, [path.stat().st_size])
  found: dict[str, Node] = {}
  for number, _, value in protobuf.fields(memoryview(path.read_bytes())):
    if number == 1:
      node = _node(protobuf.content(value))
      if node.name in found:
        raise UsageError(f"{str(path)!r} has the node {shown(node.name)} twice")
      found[node.name] = node
  return list(found.values())


def read_graph(path: pathlib.Path) -> Tensors:
  """Reads the constants of a frozen graph that have a dtype of DTYPES, by the names of their nodes.

  Raises:
    UsageError: if there is none, or as of `read_nodes`.
    ValueError: if the file is malformed.
  """
  found, total, variables = {}, 0, 0
  for node in read_nodes(path):
    variables += node.op in ("Variable", "VariableV2", "VarHandleOp")
    if node.op != "Const":
      continue
    array = node.attribute("value")
    if isinstance(array, np.ndarray):
      found[node.name] = array
      # a few bytes may declare many equal values
      total += array.nbytes
      check_bytes(path, [total])
  if not found or variables:
    kept = f"{variables} variables whose values are in a checkpoint" if variables else "no constants"
    raise UsageError(f"{str(path)!r} is a TensorFlow graph with {kept}; expected a frozen graph (frozen_inference_graph.pb)")
  return found


def is_graph(head: bytes) -> bool:
  """Tells whether a file that begins with these bytes may be a binary GraphDef: first of all a node with a name."""
  try:
    message = memoryview(head)
    length, at = protobuf.varint(message, 1)
    inner = message[at : at + length]
    return head[:1] == b"\x0a" and length > 2 and inner[0] == 0x0A and 0 < inner[1] < 0x80 and _named(inner)
  except (ValueError, IndexError):
    return False


def _named(node: memoryview) -> bool:
  """Tells whether the first field of a message is a printable name, and its second one the name of an operation."""
  end = 2 + node[1]
  return node[2:end].tobytes().isascii() and node[2:end].tobytes().decode().isprintable() and node[end] == 0x12


def _node(message: memoryview) -> Node:
  name, op, inputs, attributes = "", "", [], {}
  for number, _, value in protobuf.fields(message):
    if number == 1:
      name = protobuf.text(value)
    elif number == 2:
      op = protobuf.text(value)
    elif number == 3:
      inputs.append(protobuf.text(value))
    elif number == 5:
      entry = {key: inner for key, _, inner in protobuf.fields(protobuf.content(value))}
      attributes[protobuf.text(entry.get(1, memoryview(b"")))] = protobuf.content(entry.get(2, memoryview(b"")))
  return Node(name, op, tuple(inputs), attributes)


def _attribute(message: memoryview) -> Any:
  for number, wire, value in protobuf.fields(message):
    if number == 1:
      return [
        n for key, kind, inner in protobuf.fields(protobuf.content(value)) if key == 3 for n in protobuf.varints(kind, inner)
      ]
    if number == 2:
      return protobuf.content(value).tobytes()
    if number in (3, 6):
      return protobuf.varints(wire, value)[0]
    if number == 4:
      return protobuf.float32(value)
    if number == 5:
      return bool(value)
    if number == 8:
      return _tensor(protobuf.content(value))
  return None


def _tensor(message: memoryview) -> Weight | None:
  """Decodes a TensorProto; None for a dtype that no weights have, such as strings."""
  kind, shape, raw = 0, (), memoryview(b"")
  values: list[tuple[int, int, Value]] = []
  for number, wire, value in protobuf.fields(message):
    if number == 1:
      kind = protobuf.varints(wire, value)[0]
    elif number == 2:
      shape = tuple(_shape(protobuf.content(value)))
    elif number == 4:
      raw = protobuf.content(value)
    else:
      values.append((number, wire, value))
  if kind not in DTYPES:
    return None
  dtype, field = np.dtype(DTYPES[kind][0]), DTYPES[kind][1]
  count = math.prod(shape)
  if count * dtype.itemsize > MAX_BYTES:
    raise ValueError(f"a constant of shape {shape}")
  if len(raw):
    if len(raw) != count * dtype.itemsize:
      raise ValueError(f"a constant of shape {shape} has {len(raw):,} bytes")
    return np.frombuffer(raw, dtype.newbyteorder("<") if dtype.kind != "V" else dtype).reshape(shape)
  listed = [_values(dtype, wire, value) for number, wire, value in values if number == field]
  found = np.concatenate(listed) if listed else np.zeros(min(count, 1), dtype)
  if len(found) > count or (count and not len(found)):
    raise ValueError(f"a constant of shape {shape} has {len(found):,} values")
  if len(found) == 1:
    # without memory for what a few bytes declare
    return np.broadcast_to(found[0], shape)
  # the last value stands for all that follow
  return np.concatenate([found, np.repeat(found[-1:], count - len(found))]).reshape(shape)


def _values(dtype: np.dtype[Any], wire: int, value: Value) -> Weight:
  """Returns the values of a field of TensorProto."""
  if dtype in (np.float32, np.float64):
    return np.frombuffer(protobuf.content(value), dtype)
  numbers = protobuf.varints(wire, value)
  # bits of numbers of 16 bits
  return np.array(numbers, np.uint16).view(dtype) if dtype.itemsize == 2 else np.array(numbers, dtype)


def _shape(message: memoryview) -> Iterator[int]:
  """Yields the sides of a TensorShapeProto."""
  sides = 0
  for number, _, value in protobuf.fields(message):
    if number != 2:
      continue
    sizes = [protobuf.varints(wire, inner)[0] for key, wire, inner in protobuf.fields(protobuf.content(value)) if key == 1]
    side, sides = sizes[0] if sizes else 0, sides + 1
    if side < 0 or sides > MAX_RANK:
      raise ValueError(f"a constant with {sides} sides, one of {side}")
    yield side
