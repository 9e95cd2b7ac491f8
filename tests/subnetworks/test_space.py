"""MnasNet's space: every combination is a network, with what was chosen."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures import cost, fields, units, zoo
from mnv3_jax.architectures.spec import ArchitectureError, FusedBlock, UniversalBlock
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.subnetworks.space import OPS, SearchSpace, Stage, get_space, mnasnet_space

SPACE = mnasnet_space()


def any_choices(space=SPACE):
  return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in space.options.items()})


def test_the_space_of_mnasnet():
  assert len(SPACE.stages) == 7 and len(SPACE.options) == 42
  assert SPACE.size == math.prod(3 * 2 * 2 * 2 * len(s.filters) * len(s.layers) for s in SPACE.stages)
  assert 1e15 < SPACE.size < 324**7
  v2 = fields.architecture("mobilenetv2")
  for stage in SPACE.stages:
    assert any(block.out in stage.filters for block in v2.blocks)


def test_mnasnet_a1():
  """The released network has 112 filters in stage 5, between 96 and 120; the four stages before it are of the space."""
  stages = (("depthwise", 3, 0.0, 16, 1), ("mbconv6", 3, 0.0, 24, 2), ("mbconv3", 5, 0.25, 40, 3), ("mbconv6", 3, 0.0, 80, 4))
  choices = SPACE.extreme(largest=True)
  for i, values in enumerate(stages, 1):
    choices |= {f"stage_{i}.{n}": v for n, v in zip(("op", "kernel", "se", "filters", "layers"), values, strict=True)}
  assert SPACE.architecture(choices).blocks[:10] == zoo.mnasnet_a1().blocks[:10]


@given(any_choices())
def test_every_combination_builds_counts_and_prints(choices):
  found = SPACE.architecture(choices, resolution=64, num_classes=10)
  blocks = iter(found.rows())
  inputs = found.stem.filters
  for i, stage in enumerate(SPACE.stages, 1):
    chosen = {name: choices[f"stage_{i}.{name}"] for name in stage.options}
    for layer in range(chosen["layers"]):
      _, channels, block = next(blocks)
      assert channels == inputs and block.out == chosen["filters"] and block.kernel == chosen["kernel"]
      assert block.expand == OPS[chosen["op"]].factor * inputs
      assert block.stride == (stage.stride if layer == 0 else 1)
      assert (block.se.ratio if block.se else 0.0) == chosen["se"]
      if block.stride == 1 and inputs == block.out:
        assert block.residual == (chosen["skip"] == "identity")
      inputs = block.out
  assert not list(blocks)
  assert cost.params(found) > 0 and cost.madds(found) > 0 and str(found).count("\n") > 7
  assert found.last_map()[0] == 2
  # what has no effect makes no other network
  canonical = SPACE.canonical(choices)
  assert SPACE.canonical(canonical) == canonical and SPACE.blocks(canonical) == SPACE.blocks(choices)


@settings(max_examples=4, deadline=None)
@given(any_choices())
def test_parameters_are_those_of_the_module(choices):
  found = SPACE.architecture(choices, resolution=32, num_classes=10)
  variables = shapes(network(found, Compute()))
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == cost.params(found)


@given(any_choices())
def test_a_kind_of_block_is_among_those_that_cover_the_space(choices):
  """A table of the covering networks has every operation at every size; channels between are interpolated."""
  found = {unit_kind(unit) for unit in units.units(SPACE.architecture(choices)) if unit.key.startswith("block")}
  assert found <= COVERED


def test_a_table_of_these_predicts_all_others():
  settings = {"name": "mobilenetv3_small", "resolution": 32, "num_classes": 10}
  timed = units.distinct(*(SPACE.architecture(chosen, **settings) for chosen in SPACE.covering()))
  entries = {"empty": {"alone_ms": [0.1]}}
  for unit in (*timed, *units.grid(timed, 2)):
    ms = [unit.weights * 1e-6]
    entries[unit.key] = {"alone_ms": ms, "copies_ms": ms, "copies": 2}
  table, rng = LatencyTable({"device": "a phone", "runtime": "none", "threads": 1}, entries), np.random.default_rng(0)
  for _ in range(200):
    found = SPACE.architecture(SPACE.random(rng), **settings)
    exact = sum(unit.weights for unit in units.units(found)) * 1e-6 + 0.1
    assert predict_searched_latency(found, table) == pytest.approx(exact, rel=0.1)


def unit_kind(unit):
  row = unit.row
  found = unit.size, row.kernel, row.stride, row.se is None, row.expand == unit.channels
  return (*found, type(row), getattr(row, "start", None))


COVERED = {
  unit_kind(unit)
  for chosen in SPACE.covering()
  for unit in units.units(SPACE.architecture(chosen))
  if unit.key.startswith("block")
}


@settings(deadline=None)
@given(any_choices(), st.sampled_from(["mobilenetv3_small", "mobilenetv2"]), st.sampled_from([None, 8, 24]))
def test_other_stems_and_heads(choices, name, stem):
  found = SPACE.architecture(choices, name, stem_filters=stem, width=0.5)
  base = fields.architecture(name, stem_filters=stem, width=0.5)
  assert found.stem.filters == base.stem.filters and type(found.head) is type(base.head)
  first = found.blocks[0]
  assert first.activation == "relu" and first.expand == OPS[choices["stage_1.op"]].factor * found.stem.filters


def test_extremes():
  small, large = (SPACE.architecture(SPACE.extreme(largest)) for largest in (False, True))
  rng = np.random.default_rng(1)
  madds = [cost.madds(SPACE.architecture(SPACE.random(rng))) for _ in range(50)]
  assert cost.madds(small) < min(madds) and max(madds) < cost.madds(large)
  assert len(set(madds)) > 45


def test_json(tmp_path):
  assert SearchSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))) == SPACE
  SPACE.write(tmp_path / "space.json")
  assert SearchSpace.read(tmp_path / "space.json") == SPACE
  other = dataclasses.replace(SPACE, se_of="expansion")
  assert other.digest != SPACE.digest == mnasnet_space().digest
  (tmp_path / "bad.json").write_text('{"stages": [{"filters": [8], "layers": [1], "colour": 3}]}')
  with pytest.raises(UsageError, match=r"bad.json' is no search space: SearchSpace.write makes such files"):
    SearchSpace.read(tmp_path / "bad.json")
  with pytest.raises(UsageError, match="no file"):
    SearchSpace.read(tmp_path / "none.json")
  assert get_space("mnasnet") == get_space(SPACE) == get_space(tmp_path / "space.json") == SPACE
  with pytest.raises(UsageError, match="invalid space='mnasnte'; expected mnasnet, or a file"):
    get_space("mnasnte")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"filters": ()}, "expected at least one value"),
    ({"layers": (1, 1)}, "each once"),
    ({"layers": (0, 1)}, "at least 1"),
    ({"ops": ("conv",)}, "invalid ops='conv' of a stage"),
    ({"skips": ("pool",)}, "invalid skips='pool' of a stage"),
    ({"se_ratios": (-1.0,)}, "expected 0 for none"),
    ({"stride": 3}, "expected 1 or 2"),
    ({"kernels": (0, 3)}, "expected whole numbers of at least 1"),
    ({"ops": ("uib4",)}, "universal ones need them, and no others"),
    ({"ops": ("uib4", "mbconv3"), "starts": (3,)}, "universal ones need them, and no others"),
    ({"starts": (0, 3)}, "only universal operations have them"),
    ({"ops": ("uib4",), "starts": (-1,)}, "at least 0"),
    ({"ops": ("uib4",), "starts": (0, 3), "kernels": (0, 3), "stride": 2}, "without depthwise convolutions has no stride"),
    ({"activation": "hswish"}, "invalid activation='hswish' of a stage; did you mean 'swish'"),
  ],
)
def test_bad_stages(changes, message):
  with pytest.raises(UsageError, match=message):
    Stage(**{"filters": (8,), "layers": (1,), **changes})


def test_choices_of_another_space():
  other = SearchSpace(stages=SPACE.stages[:3])
  choices = other.random(np.random.default_rng(0))
  with pytest.raises(UsageError, match=r"invalid choice stage_4.op=None; it is not one of this search space"):
    SPACE.canonical(choices)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("k3_o16_s1_re,k3", "expected blocks such as k3_x6_o24_s2_re_se0.25, got 'k3'"),
    ("", "got ''"),
    ("k4_o16_s1_re", "expected an odd number"),
    ("k3_o16_s3_re", "stride=3"),
    ("k3_x0_o16_s1_re", "expand=0"),
  ],
)
def test_bad_blocks(text, message):
  with pytest.raises(ArchitectureError, match=message):
    fields.architecture("mnasnet_a1", blocks=text)


def universal_space(kernels=(0, 3, 5), starts=(0, 3, 5)):
  """Stages of the two kinds of MobileNetV4, the second kind with every choice of its kernels."""
  shared = {"layers": (1, 2), "se_ratios": (0.0,), "skips": ("identity",)}
  fused = Stage(filters=(16, 24), ops=("fused2", "fused4"), stride=2, **shared)
  first = Stage(filters=(32, 40), ops=("uib2", "uib4"), kernels=(3, 5), starts=starts, stride=2, **shared)
  rest = Stage(filters=(48, 56), ops=("uib2", "uib3", "uib6"), kernels=kernels, starts=starts, **shared)
  return SearchSpace(stages=(fused, first, rest))


@given(any_choices(universal_space()))
def test_networks_of_universal_and_fused_blocks(choices):
  space = universal_space()
  found = space.architecture(choices, "mobilenetv4_conv_small", resolution=64)
  kinds = {"fused": FusedBlock, "uib": UniversalBlock}
  blocks = iter(found.rows())
  for i, stage in enumerate(space.stages, 1):
    op = choices[f"stage_{i}.op"]
    for layer in range(choices[f"stage_{i}.layers"]):
      _, inputs, block = next(blocks)
      assert type(block) is kinds[op.rstrip("0123456789")] and block.expand == OPS[op].factor * inputs
      assert block.kernel == choices[f"stage_{i}.kernel"] and block.stride == (stage.stride if layer == 0 else 1)
      assert getattr(block, "start", None) == choices.get(f"stage_{i}.start")
  assert not list(blocks) and found.head.hidden_norm and cost.params(found) > 0
  assert {unit_kind(unit) for unit in units.rows(found)[1:]} <= COVERED_UNIVERSAL


COVERED_UNIVERSAL = {
  unit_kind(unit)
  for chosen in universal_space().covering()
  for unit in units.rows(universal_space().architecture(chosen, "mobilenetv4_conv_small", resolution=64))[1:]
}


def test_a_space_of_universal_blocks_is_a_file(tmp_path):
  space = universal_space()
  space.write(tmp_path / "space.json")
  assert SearchSpace.read(tmp_path / "space.json") == space == SearchSpace.from_text(space.text)
  # spaces without the choice have the identity that they had before it
  assert SPACE.digest == "0e64437905012414" and "starts" not in SPACE.text


def test_universal_blocks_in_a_supernet():
  universal_space(kernels=(3, 5), starts=(3, 5)).check_nested()
  universal_space(kernels=(0,), starts=(3, 5)).check_nested()
  for changes, field in (({"starts": (3, 5)}, "kernels"), ({"kernels": (3, 5)}, "starts")):
    with pytest.raises(
      UsageError, match=rf"invalid {field}=\(0, 3, 5\) of stage . in a supernet; expected no 0, or that alone"
    ):
      universal_space(**changes).check_nested()
  mixed = Stage(filters=(8,), layers=(1,), ops=("mbconv3", "fused4"), skips=("identity",))
  with pytest.raises(UsageError, match="expected operations of one kind"):
    SearchSpace(stages=(mixed,)).check_nested()
