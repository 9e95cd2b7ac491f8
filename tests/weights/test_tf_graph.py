"""Frozen graphs: every form of a constant, and everything that can be wrong with a file."""

import struct

import graphs
import ml_dtypes
import numpy as np
import pytest
from graphs import constant, field, node, tensor
from hypothesis import HealthCheck, example, given, settings, strategies as st

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import formats
from mnv3_jax.weights.tf_graph import read_nodes

ARRAYS = {
  "a/weights": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
  "a/biases": np.float32([1, -2]),
  "b": np.float64(0.5).reshape(()),
  "c": np.int32([[300, -300]]),
  "d": np.array([1, -2], ml_dtypes.bfloat16),
  "e": np.float16([1, -2]),
  "f": np.int64([-1]),
  "g": np.zeros((0, 3), np.float32),
}


def saved(tmp_path, content, name="g.pb"):
  (tmp_path / name).write_bytes(content)
  return tmp_path / name


def test_raw_constants(tmp_path):
  found = formats.read(saved(tmp_path, graphs.graph(ARRAYS)))
  assert list(found) == list(ARRAYS)
  for name, array in ARRAYS.items():
    assert found[name].dtype == array.dtype and found[name].shape == array.shape
    np.testing.assert_array_equal(found[name], array)


def test_listed_constants(tmp_path):
  floats, half = struct.pack("<2f", 1.5, 2.5), graphs.varint(0x3C00)
  content = graphs.graph({"first": np.zeros(1, np.float32)})
  content += constant("packed", tensor(np.zeros(2, np.float32), field(5, floats)))
  # the last value stands for all that follow
  content += constant("filled", tensor(np.zeros(1, np.float32), field(5, floats), (2, 3)))
  content += constant("single", tensor(np.zeros(1, np.float32), graphs.varint(5 << 3 | 5) + floats[:4], ()))
  content += constant("whole", tensor(np.zeros(1, np.int32), field(7, 300) + field(7, graphs.varint(-7)), (2,)))
  content += constant("half", tensor(np.zeros(1, np.float16), field(13, half), (2,)))
  content += constant("zeros", tensor(np.zeros(1, np.float32), b"", (2,)))
  content += node("words", "Const", value=field(8, field(1, 7) + field(2, b"") + field(8, "text")))
  found = formats.read(saved(tmp_path, content))
  assert found["packed"].tolist() == [1.5, 2.5]
  assert found["filled"].tolist() == [[1.5, 2.5, 2.5], [2.5, 2.5, 2.5]]
  assert found["single"].tolist() == 1.5 and found["whole"].tolist() == [300, -7]
  assert found["half"].tolist() == [1, 1] and found["zeros"].tolist() == [0, 0]
  assert "words" not in found


def test_nodes(tmp_path):
  strides = field(1, field(3, b"".join(map(graphs.varint, (1, 2, 2, 1)))))
  content = node("x", "Placeholder", dtype=field(6, 4))
  more = {"strides": strides, "padding": field(2, "SAME"), "epsilon": graphs.varint(4 << 3 | 5) + struct.pack("<f", 0.5)}
  content += node("conv", "Conv2D", ["x", "^y", "w:1"], flag=field(5, 1), **more)
  found = read_nodes(saved(tmp_path, content))[1]
  assert (found.name, found.op, found.inputs) == ("conv", "Conv2D", ("x", "^y", "w:1"))
  names = ("strides", "padding", "epsilon", "flag", "absent")
  assert [found.attribute(name) for name in names] == [[1, 2, 2, 1], b"SAME", 0.5, True, None]


FIRST = graphs.graph({"first": np.zeros(1, np.float32)})
HUGE = tensor(np.zeros(1, np.float32), field(5, struct.pack("<f", 1)), (2**20, 2**20))
LARGE = tensor(np.zeros(1, np.float32), field(5, struct.pack("<f", 1)), (2**26,))


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (FIRST + FIRST, "has the node image_tensor twice"),
    (node("v", "VariableV2") + FIRST, "graph with 1 variables whose values are in a checkpoint; expected a frozen graph"),
    (node("x", "Placeholder"), "a TensorFlow graph with no constants; expected a frozen graph"),
    (FIRST + constant("w", HUGE), r"is damaged or cut off: a constant of shape \(1048576, 1048576\)"),
    # few bytes that declare many, each less than the limit
    (FIRST + b"".join(constant(f"w{i}", LARGE) for i in range(3)), r"declares 0\.\d+ GiB of arrays; expected at most 0.5 GiB"),
    (FIRST + constant("w", tensor(np.zeros(3, np.float32), None, (2,))), r"a constant of shape \(2,\) has 12 bytes"),
    (FIRST + constant("w", tensor(np.zeros(1, np.float32), b"", (-1,))), "a constant with 1 sides, one of -1"),
    (FIRST[:-3], "is damaged or cut off: field 1 has"),
    (FIRST + b"\x0b", "is damaged or cut off: wire type 3 of field 1"),
    (FIRST + b"\xff" * 11, "a number has more than 10 bytes"),
  ],
  ids=range(10),
)
def test_refused(tmp_path, content, said):
  with pytest.raises(UsageError, match=said) as error:
    formats.read(saved(tmp_path, content))
  assert "\n" not in str(error.value)


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
@example(at=0, byte=0, cut=True)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged(tmp_path, at, byte, cut):
  """A byte changed or the rest cut off: arrays or a sentence, nothing else."""
  content = graphs.graph(ARRAYS)
  at %= len(content)
  content = content[:at] if cut else content[:at] + bytes([byte]) + content[at + 1 :]
  try:
    found = formats.read(saved(tmp_path, content))
  except UsageError as error:
    assert "\n" not in str(error)
  else:
    assert all(isinstance(a, np.ndarray) for a in found.values())


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("saved_model.pb", b"\x08\x01" + field(2, b"x" * 40)),
    ("graph.pbtxt", b'node {\n  name: "x"\n}\n'),
    ("t.txt", b"\n\n\n text"),
  ],
)
def test_other_files_are_no_graphs(tmp_path, name, content):
  with pytest.raises(UsageError, match="invalid file="):
    formats.read(saved(tmp_path, content, name))
