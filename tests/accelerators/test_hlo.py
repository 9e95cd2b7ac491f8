"""Reading a compiled program: a scan over five products, and a sum over four devices (tests/accelerators/recorded/loop.hlo)."""

import pytest
from conftest import ROOT

from mnv3_jax.accelerators import hlo
from mnv3_jax.accelerators.op_names import NO_ROW, Cost, costs, phase_of, row_of

RECORDED = ROOT / "tests" / "accelerators" / "recorded"
ROWS = ["stem", "block_01", "logits"]


@pytest.fixture(scope="module")
def program():
  return hlo.parse((RECORDED / "loop.hlo").read_text())


def test_a_loop_counts_as_often_as_it_runs(program):
  inside = [(o.opcode, o.cycles) for o in program.operations if o.times == 5]
  assert inside == [("copy", 48), ("fusion", 1280)]
  assert program.cycles == 6272 + 5 * (48 + 1280) + 3980 + 1280 + 6272
  assert program.repetition == pytest.approx(24444 / 19132)


def test_devices_exchange_gradients_and_sums(program):
  (exchange,) = [o for o in program.operations if o.exchanged]
  assert (exchange.opcode, exchange.name, exchange.cycles) == ("all-reduce", "jit(f)/shard_map/psum", 0)
  # once there and once back: 512 x 512 and one float32
  assert program.exchanged == 2 * 4 * (512 * 512 + 1)


def test_conditionals_calls_and_known_loops():
  text = """HloModule m

%branch.1 (p: f32[]) -> f32[] {
  %p = f32[] parameter(0)
  ROOT %n = f32[] negate(%p), backend_config={"estimated_cycles":"7"}
}

%other (p: f32[]) -> f32[] {
  ROOT %p = f32[] parameter(0), backend_config={"estimated_cycles":"2"}
}

ENTRY %main (p: f32[8]) -> f32[] {
  %w = (s32[], f32[8]{0}) while(%t), condition=%c, body=%branch.1, backend_config={"known_trip_count":{"n":"3"}}
  %c = f32[] conditional(%i, %p, %p), branch_computations={%branch.1, %other}
  ROOT %r = (bf16[2,3]{1,0}, s4[8]{0}) all-gather(%p), dimensions={0}
}
"""
  program = hlo.parse(text)
  assert program.cycles == 3 * 7 + 7 + 2
  assert program.exchanged == 2 * 2 * 3 + 4


def test_a_text_without_an_entry_is_no_program():
  with pytest.raises(ValueError, match="no entry computation"):
    hlo.parse("HloModule m\n")


@pytest.mark.parametrize(
  ("name", "row", "phase"),
  [
    ("jit(step)/shard_map/jvp(Classifier)/backbone/block_01/expand/conv_general_dilated", "block_01", "forward"),
    ("jit(step)/shard_map/transpose(jvp(Classifier))/backbone/stem/bn/mul", "stem", "backward"),
    ("jit(step)/shard_map/Classifier/logits/dot_general", "logits", "forward"),
    ("jit(step)/shard_map/jvp(log_softmax)/sub", NO_ROW, "forward"),
    ("jit(step)/shard_map/mul", NO_ROW, "update"),
    ("", NO_ROW, "unnamed"),
  ],
)
def test_an_operation_belongs_to_a_row_and_a_phase(name, row, phase):
  assert (row_of(name, ROWS), phase_of(name)) == (row, phase)


def test_costs_are_in_the_order_of_the_network():
  names = {"a/logits/dot": 1, "jvp(C)/stem/conv": 2, "transpose(jvp(C))/stem/conv": 3, "mul": 4, "jvp(C)/stem/bn": 5}
  program = hlo.Program(tuple(hlo.Operation("fusion", name, cycles, 2, 0) for name, cycles in names.items()))
  assert costs(program, ROWS) == [
    Cost("stem", "forward", 14),
    Cost("stem", "backward", 6),
    Cost("logits", "update", 2),
    Cost(NO_ROW, "update", 8),
  ]
