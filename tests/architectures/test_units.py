"""Units: a network in pieces, and the grid around them."""

import dataclasses

import pytest
from conftest import tiny_architecture
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures import edits, units, zoo
from mnv3_jax.architectures.spec import Block, SqueezeExcite
from mnv3_jax.architectures.units import LastStage, Unit

BLOCK = Block(kernel=3, expand=64, out=24, stride=1, activation="relu", se=SqueezeExcite())


def block(size=14, channels=16, padding="same", **changes):
  return Unit(row=dataclasses.replace(BLOCK, **changes), size=size, channels=channels, padding=padding)


def test_the_units_of_v3_large():
  found = units.units(zoo.mobilenetv3_large())
  assert [(u.size, u.channels) for u in found[:3]] == [(224, 3), (112, 16), (112, 16)]
  assert [(u.size, u.channels) for u in found[-3:]] == [(7, 160), (7, 160), (7, 160)]
  assert len(found) == 17 and isinstance(found[-1].row, LastStage) and found[-1].classes == 1000
  # blocks 6, 10 and 15 repeat the one before them
  assert len(units.distinct(zoo.mobilenetv3_large())) == 14


def test_a_key_says_what_is_computed_and_nothing_else():
  assert block().key == (
    "block size=14 channels=16 kernel=3 stride=1 padding=none expand=64 out=24 dilation=1 squeeze=16 gate=hard_sigmoid "
    "activation=relu project=linear residual=no"
  )
  same = [
    block(padding="symmetric"),
    block(se=SqueezeExcite(ratio=1.0, of="input")),
    block(residual=False),
  ]
  assert {u.key for u in same} == {block().key}
  others = [
    block(size=28),
    block(channels=24),
    block(kernel=5),
    block(expand=72),
    block(expand=16),
    block(out=16),
    block(out=16, residual=False),
    block(stride=2),
    block(stride=2, padding="symmetric"),
    block(dilation=2),
    block(se=None),
    block(se=SqueezeExcite(ratio=0.5)),
    block(se=SqueezeExcite(gate="sigmoid")),
    block(activation="hard_swish"),
    block(project_activation="relu"),
  ]
  assert len({u.key for u in (block(), *others)}) == 1 + len(others)
  head = units.units(zoo.mobilenetv1())[-1]
  assert head.key == "head size=7 channels=1024 features=none hidden=none classes=1000 activation=none"


def test_families_have_the_numbers_that_can_change():
  assert block().axes == {"channels": 16, "expand": 64, "out": 24}
  assert block(out=16).axes == {"channels": 16, "expand": 64}
  assert block(expand=16).axes == {"channels": 16, "out": 24}
  assert block(expand=16, out=16).axes == {"channels": 16}
  first, *_, last = units.units(zoo.mobilenetv3_small())
  assert first.axes == {"out": 16} and last.axes == {"channels": 96, "features": 576, "hidden": 1024}
  assert units.units(zoo.mobilenetv1())[-1].axes == {"channels": 1024}
  # another squeeze is the same family only as the rule of its block makes it
  assert units.family(block().key)[0] == units.family(block(expand=128).key)[0] != units.family(block(se=None).key)[0]


CHANNELS = st.integers(1, 40).map(lambda n: 8 * n)


@settings(max_examples=60, deadline=None)
@given(
  model=st.sampled_from(sorted(zoo.MODELS)),
  width=st.sampled_from([0.35, 0.5, 0.75, 1.0, 1.25]),
  numbers=st.lists(CHANNELS, min_size=3, max_size=3),
)
def test_a_unit_at_its_own_numbers_is_itself_and_at_others_has_these(model, width, numbers):
  for unit in units.units(edits.with_width(zoo.MODELS[model](), width)):
    assert unit.at(**unit.axes).key == unit.key
    asked = dict(zip(unit.axes, numbers, strict=False))
    moved = unit.at(**asked)
    if units.family(moved.key)[0] == units.family(unit.key)[0]:
      assert moved.axes == asked


@pytest.mark.parametrize("model", sorted(zoo.MODELS))
def test_a_grid_is_of_the_same_families_and_reaches_around(model):
  own = units.distinct(zoo.MODELS[model]())
  grid = units.grid(own)
  families = {}
  for unit in (*own, *grid):
    families.setdefault(units.family(unit.key)[0], []).append(unit.axes)
  assert len({u.key for u in (*own, *grid)}) == len(own) + len(grid)
  assert set(families) == {units.family(u.key)[0] for u in own}
  assert all(n % 8 == 0 for axes in families.values() for point in axes for n in point.values())
  for unit in own:
    around = families[units.family(unit.key)[0]]
    for axis, n in unit.axes.items():
      values = [point[axis] for point in around]
      assert max(values) >= n and min(values) <= max(16, n / 2)


def test_a_grid_has_every_combination():
  found = units.grid([block(channels=32, expand=192, out=64)], points=2)
  assert sorted(tuple(u.axes.values()) for u in found) == [
    (8, 48, 16), (8, 48, 64), (8, 192, 16), (8, 192, 64), (32, 48, 16), (32, 48, 64), (32, 192, 16)
  ]  # fmt: skip
  assert units.grid([block(expand=16, out=16)], points=2) == [block(channels=8, expand=8, out=8)]


def test_tiny_networks_have_grids_too():
  assert units.grid(units.distinct(tiny_architecture()))
