"""What NetAdapt proposes, how it chooses, and which examples it chooses by."""

import pytest
from hypothesis import given, strategies as st

from mnv3_jax.architectures import channels, cost, edits, zoo
from mnv3_jax.errors import UsageError
from mnv3_jax.search.criteria import accuracy, change_per_ms
from mnv3_jax.search.proposals import proposals
from mnv3_jax.search.selection import selection_splits


def milliseconds(architecture):
  """A latency that falls with every channel."""
  return cost.madds(architecture) * 1e-6 + cost.params(architecture) * 1e-7


@pytest.mark.parametrize(
  "name", ["mobilenetv3_large", "mobilenetv3_small", "mnasnet_a1", "mobilenetv2", "mobilenetv1", "mobilenetv4_conv_small"]
)
def test_proposals_are_the_papers(name):
  net = zoo.MODELS[name]()
  ms = milliseconds(net)
  found = proposals(net, milliseconds, at_most=0.99 * ms)
  rows = {row: (inputs, block) for row, inputs, block in net.rows()}
  expansions = [row for row, (inputs, block) in rows.items() if block.expand != inputs]
  streams = {group: blocks for group, blocks in channels.streams(net).items() if group != "stem"}
  named = [p.name.rsplit("_", 1)[0] for p in found]
  assert set(named) <= {f"{row}_expand" for row in expansions} | {f"{group}_out" for group in streams}
  assert len(named) == len(set(named)) > (5 if name != "mobilenetv1" else 3)
  for p in found:
    assert p.latency_ms == milliseconds(p.architecture) <= 0.99 * ms
    what, width = p.name.rsplit("_", 1)
    row, axis = what.rsplit("_", 1)
    assert int(width) % 8 == 0
    changed = {
      new
      for (new, inputs, b), (_, was, old) in zip(p.architecture.rows(), net.rows(), strict=True)
      if (b.expand != inputs and b.expand != old.expand) or b.out != old.out
    }
    assert changed == ({row} if axis == "expand" else set(streams[row]))
    # the next larger width would not do, and no connection is lost
    was = rows[row][1].expand if axis == "expand" else rows[row][1].out
    for wider in range(int(width) + 8, was, 8):
      sizes = {row: (wider, rows[row][1].out)} if axis == "expand" else {b: (rows[b][1].expand, wider) for b in streams[row]}
      try:
        assert milliseconds(edits.with_channels(net, sizes)) > 0.99 * ms
      except ValueError:
        continue
    added = [[b.adds_input(inputs) for _, inputs, b in a.rows()] for a in (net, p.architecture)]
    assert added[0] == added[1]


def test_proposals_that_cannot_meet_it_are_dropped():
  net = zoo.mobilenetv3_small()
  ms = milliseconds(net)
  assert proposals(net, milliseconds, at_most=0.2 * ms) == []
  many, few = (len(proposals(net, milliseconds, at_most=share * ms)) for share in (0.995, 0.9))
  assert many > few > 0
  near = proposals(net, milliseconds, at_most=0.99 * ms, at_least=0.985 * ms)
  assert all(0.985 * ms <= p.latency_ms <= 0.99 * ms for p in near) and near

  def known(architecture):
    if architecture.blocks[4].expand != 240:
      raise UsageError("not in the table")
    return milliseconds(architecture)

  assert not any("block_05_expand" in p.name for p in proposals(net, known, at_most=0.99 * ms))
  assert proposals(net, known, at_most=0.99 * ms)


def test_the_criterion_where_accuracy_falls():
  """The least loss for a millisecond: neither the smallest cut nor the smallest loss as such."""
  cuts = {"small": (-0.010, 1.0), "good": (-0.015, 3.0), "large": (-0.05, 4.0)}
  assert max(cuts, key=lambda name: change_per_ms(*cuts[name])) == "good"
  assert max(cuts, key=lambda name: accuracy(*cuts[name])) == "small"


def test_the_criterion_where_accuracy_rises():
  cuts = {"small": (0.02, 1.0), "large": (0.02, 3.0), "loses": (-1e-6, 50.0), "gains less": (0.01, 9.0)}
  # the plain ratio would take the smallest cut
  assert max(cuts, key=lambda name: cuts[name][0] / cuts[name][1]) == "small"
  assert max(cuts, key=lambda name: change_per_ms(*cuts[name])) == "large"
  assert max(cuts, key=lambda name: accuracy(*cuts[name])) == "large"


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 10), st.floats(0.01, 10))
def test_more_accuracy_for_the_same_cut_is_never_worse(one, other, ms, more):
  low, high = sorted((one, other))
  assert change_per_ms(low, ms) <= change_per_ms(high, ms)
  assert change_per_ms(low, ms) <= change_per_ms(low, ms + more)


def test_examples_that_judge():
  assert selection_splits("train") == ("train[:90%]", "train[90%:]", True)
  assert selection_splits("train[:80%]") == ("train[:80%]", "train[80%:]", False)
  assert selection_splits("all[:640]") == ("all[:640]", "all[640:]", False)
  for split in ("train[10%:]", "train[1:5]", "train[:-5]"):
    with pytest.raises(UsageError, match=r"expected a slice such as --config.data.train_split=train\[:90%\]"):
      selection_splits(split)
