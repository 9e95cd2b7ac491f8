"""Where the time goes: the blocks of operators, the operators of events, and that the times are times."""

import collections
import ctypes

import pytest
from conftest import tiny_architecture

from mnv3_jax.architectures import zoo
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, runtime, tflite as exporting
from mnv3_jax.export.graph import Operator
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.latency import profiler, profiler_events
from mnv3_jax.latency.profiler_events import Event


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """The bytes of MobileNetV3-Small, and of the tiny network."""
  found = {}
  for a in (zoo.mobilenetv3_small(), tiny_architecture(resolution=64)):
    path = tmp_path_factory.mktemp("profile") / "m.tflite"
    exporting.write_tflite(a, *random_weights(a)[:1], path, random_weights(a)[1])
    found[a.name] = path.read_bytes()
  return found


def test_every_operator_has_its_block(exported):
  operators = graph.operators(exported["mobilenetv3_small"])
  assert collections.Counter(o.type for o in operators) == runtime.TFLiteModel(exported["mobilenetv3_small"]).ops
  blocks = list(dict.fromkeys(o.row for o in operators))
  assert blocks == ["stem", *(f"block_{i:02}" for i in range(1, 12)), "features", "pool", "hidden", "logits"]
  of = {b: [o.type for o in operators if o.row == b] for b in blocks}
  assert of["stem"] == of["features"] == ["CONV_2D", "HARD_SWISH"]
  # depthwise, squeeze-excite (mean, two convolutions, the sixth, the product), projection
  assert of["block_01"] == ["DEPTHWISE_CONV_2D", "MEAN", "CONV_2D", "CONV_2D", "MUL", "MUL", "CONV_2D"]
  assert of["block_02"] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
  assert of["block_03"] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"]
  assert of["pool"] == ["MEAN"]
  assert of["hidden"] == ["FULLY_CONNECTED", "HARD_SWISH"] and of["logits"] == ["FULLY_CONNECTED"]


def test_the_blocks_are_those_of_the_architecture(exported):
  a = tiny_architecture(resolution=64)
  operators = graph.operators(exported["tiny"])
  convolutions = collections.Counter(o.row for o in operators if o.type == "DEPTHWISE_CONV_2D")
  assert convolutions == {f"block_{i:02}": 1 for i in range(1, len(a.blocks) + 1)}
  assert graph.UNNAMED not in {o.row for o in operators}


def test_names_of_a_fused_operator():
  scope = "jit(f)/Classifier/Classifier.features/backbone"
  assert graph._module(f"max;{scope}/block_02/bn/add;{scope}/block_01/bn/mul") == "block_02"
  assert graph._module("jit(<lambda>)/Classifier/div;jit(<lambda>)/Classifier/reduce_sum") == ""
  assert graph._module("jit(f)/Segmenter/head/conv/conv_general_dilated") == "head"
  assert graph._module("MobilenetV3/expanded_conv_1/Relu") is None and graph._module("serving_default_output") is None


def events(*said):
  return [Event(tag, node, 1.0) for tag, node in said]


CONV, DEPTHWISE, PRODUCT = "Convolution (NHWC, F32) IGEMM", "Convolution (NHWC, F32) DWConv", "Multiply (ND)"


def test_events_find_their_operators():
  operators = [Operator(type_, "") for type_ in ("CONV_2D", "HARD_SWISH", "DEPTHWISE_CONV_2D", "CONV_2D", "MUL")]
  seen = events((CONV, None), ("HardSwish (NC)", None), (DEPTHWISE, None), ("Fully Connected (NC, F32) GEMM", None))
  assert profiler.match_events([*seen, *events((PRODUCT, None))], operators) == [0, 1, 2, 3, 4]
  # a conversion that XNNPACK adds, an activation that it fuses
  seen = events(("Convert (NC, F32, QD8)", None), (CONV, None), (DEPTHWISE, None), (CONV, None), (PRODUCT, None))
  assert profiler.match_events(seen, operators) == [None, 0, 2, 3, 4]
  # what the interpreter runs by itself has a number, and settles which of two alike is meant
  operators = [Operator(type_, "") for type_ in ("CONV_2D", "CONV_2D", "HARD_SWISH", "CONV_2D")]
  assert profiler.match_events(events(("HARD_SWISH", 2), (CONV, None)), operators) == [2, 3]
  assert profiler.match_events(events((CONV, None), ("HARD_SWISH", 2), (CONV, None)), operators) in ([0, 2, 3], [1, 2, 3])
  # a depthwise convolution is no ordinary one
  assert profiler.match_events(events((DEPTHWISE, None)), operators) == [None]
  assert profiler.match_events(events(("Something New (NC)", None)), operators) == [None]


def test_what_is_no_operator_counts_to_the_next_block(monkeypatch):
  operators = [Operator("CONV_2D", "stem"), Operator("CONV_2D", "block_01")]
  seen = events((CONV, None), ("Convert (NC, F32, QD8)", None), (CONV, None), ("Convert (NC, QS8, F32)", None))
  monkeypatch.setattr(graph, "operators", lambda content: operators)
  monkeypatch.setattr(profiler, "TFLiteModel", lambda *_: None)
  monkeypatch.setattr(profiler_events, "record_events", lambda *_, on_progress: (seen, 5.0))
  found = profiler.profile(b"")
  assert [(o.type, o.block) for o in found.operators] == [
    ("CONV_2D", "stem"),
    ("Convert (NC, F32, QD8)", "block_01"),
    ("CONV_2D", "block_01"),
    ("Convert (NC, QS8, F32)", "block_01"),
  ]
  assert (found.matched, found.sum_ms, found.whole_ms) == (2, 4.0, 5.0)
  assert found.by_block() == {"stem": (1, 1.0), "block_01": (3, 3.0)}
  assert next(iter(found.by_type().items())) == ("CONV_2D", (2, 2.0))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_profile_of_the_real_network(exported, threads):
  progress = []
  found = profiler.profile(exported["mobilenetv3_small"], 60, threads, on_progress=lambda *counts: progress.append(counts))
  operators = graph.operators(exported["mobilenetv3_small"])
  # XNNPACK runs every operator of the float32 file as one of its own
  assert found.matched == len(found.operators) == len(operators) == 107
  assert [(o.type, o.block) for o in found.operators] == [(o.type, o.row) for o in operators]
  assert progress == [(30, 60), (60, 60)]
  kinds, blocks = found.by_type(), found.by_block()
  for parts in (kinds, blocks):
    assert sum(n for n, _ in parts.values()) == 107
    assert sum(ms for _, ms in parts.values()) == pytest.approx(found.sum_ms)
  # both are of the network; on a busy machine they may differ, for they are of different runs
  assert found.whole_ms / 3 < found.sum_ms < 3 * found.whole_ms
  assert [ms for _, ms in kinds.values()] == sorted((ms for _, ms in kinds.values()), reverse=True)
  # most multiply-adds are in 1x1 convolutions; the pool has next to none
  assert kinds["CONV_2D"][1] > kinds["DEPTHWISE_CONV_2D"][1] > kinds["ADD"][1]
  assert blocks["stem"][1] > 10 * blocks["pool"][1]


def test_another_layout_of_events_is_noticed(exported, monkeypatch):
  class Other(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64 * 4 if name == "memory" else kind) for name, kind in profiler_events._Event._fields_)

  monkeypatch.setattr(profiler_events, "_Event", Other)
  with pytest.raises(FatalError, match=r"another structure than those of ai-edge-litert 2\.3"):
    profiler_events.record_events(exported["tiny"], runs=2)


def test_what_cannot_be_loaded_is_named():
  with pytest.raises(UsageError, match="'a file' cannot be loaded"):
    profiler.profile(b"    TFL3" + bytes(100), name="'a file'")
