"""The ablations as functions."""

import dataclasses

import pytest
from hypothesis import given, strategies

from mnv3_jax.architectures import cost, edits, widths, zoo
from mnv3_jax.architectures.spec import ArchitectureError, SqueezeExcite

LARGE, SMALL = zoo.mobilenetv3_large(), zoo.mobilenetv3_small()

# parameters and multiply-adds (millions) of each code base's rule, counted on its own networks; timm's parameters are those of
# timm 1.0.31: sum(p.numel() for p in timm.models.mobilenetv3._gen_mobilenet_v3(name, width).parameters())
WIDTHS = {
  "torchvision": {
    "large": [(0.35, 997_064, 35.3), (0.5, 1_734_576, 65.0), (0.75, 3_377_576, 140.0), (1.25, 8_164_744, 343.5)],
    "small": [(0.35, 558_744, 11.2), (0.5, 917_264, 19.0), (0.75, 1_653_920, 39.1), (1.25, 3_644_912, 88.2)],
  },
  "keras": {
    "large": [(0.35, 2_132_216, 43.9), (0.5, 2_689_904, 73.7), (0.75, 3_993_528, 154.6), (1.25, 8_255_784, 349.9)],
    "small": [(0.35, 1_350_344, 15.9), (0.5, 1_593_224, 24.2), (0.75, 2_041_872, 43.4), (1.25, 3_645_312, 87.7)],
  },
  "slim": {
    "large": [(0.35, 1_019_448, 38.4), (0.5, 1_741_680, 68.3), (0.75, 3_442_808, 154.0), (1.25, 8_256_296, 355.9)],
    "small": [(0.35, 560_824, 12.0), (0.5, 932_736, 20.4), (0.75, 1_675_024, 43.0), (1.25, 3_645_960, 91.2)],
  },
  "timm": {
    "large": [(0.35, 2_132_216, 43.9), (0.5, 2_689_904, 73.7), (0.75, 3_993_528, 154.6), (1.25, 7_551_976, 355.2)],
    "small": [(0.35, 1_358_808, 16.0), (0.5, 1_593_224, 24.2), (0.75, 2_041_872, 43.4), (1.25, 3_205_384, 90.8)],
  },
}


@pytest.mark.parametrize(
  ("rule", "size", "width", "params", "madds"),
  [(rule, size, *row) for rule, sizes in WIDTHS.items() for size, rows in sizes.items() for row in rows],
)
def test_width_rules(rule, size, width, params, madds):
  a = edits.with_width({"large": LARGE, "small": SMALL}[size], width, rule)
  assert (cost.params(a), round(cost.madds(a) / 1e6, 1)) == (params, madds)
  assert a.width == width


@given(strategies.floats(0.1, 2.0), strategies.sampled_from(sorted(widths.RULES)), strategies.sampled_from([LARGE, SMALL]))
def test_any_width_gives_a_network_in_eights(width, rule, base):
  a = edits.with_width(base, width, rule)
  assert all(b.expand % 8 == 0 and b.out % 8 == 0 for b in a.blocks)
  # rows of equal width stay equal: no residual is lost but that of a first block whose stem is rounded otherwise
  before, after = ([b.adds_input(c) for _, c, b in n.rows()][1:] for n in (base, a))
  assert all(new or not old for old, new in zip(before, after, strict=True))
  assert cost.params(a) > 0


def test_the_original_last_stage_keeps_its_wide_layer_below_1():
  original = edits.with_last_stage(LARGE, "original")
  assert [edits.with_width(original, m).features.filters for m in (0.5, 1.25)] == [1280, 1600]
  assert edits.with_width(original, 0.5, "slim").features.filters == 640


def test_width_refuses():
  for width in (0, -1, 17, True, "1"):
    with pytest.raises(ArchitectureError, match="width"):
      edits.with_width(SMALL, width)
  with pytest.raises(ArchitectureError, match="did you mean 'timm'"):
    edits.with_width(SMALL, 0.5, "tim")
  with pytest.raises(ArchitectureError, match=r"already carry width 0\.5"):
    edits.with_width(edits.with_width(SMALL, 0.5), 0.75)


def nonlinearities(a):
  assert a.features is None or a.features.activation == a.head.activation
  return [a.stem.activation, *(b.activation for b in a.blocks), a.head.activation]


def test_h_swish_from_gives_the_networks_themselves():
  assert edits.h_swish_from(LARGE, 80) == LARGE
  assert edits.h_swish_from(SMALL, 40) == SMALL


def test_h_swish_from_any_channels():
  assert set(nonlinearities(edits.h_swish_from(LARGE, 16))) == {"hard_swish"}
  assert set(nonlinearities(edits.h_swish_from(LARGE, None))) == {"relu"}
  assert [b.activation for b in edits.h_swish_from(LARGE, 112).blocks].index("hard_swish") == 10
  none = edits.h_swish_from(LARGE, 999)
  assert {b.activation for b in none.blocks} == {"relu"} and none.head.activation == none.stem.activation == "hard_swish"
  for bad in (0, -1, 80.0, True, "80"):
    with pytest.raises(ArchitectureError, match="h_swish_from"):
      edits.h_swish_from(LARGE, bad)
  with pytest.raises(ArchitectureError, match="apply the width after"):
    edits.h_swish_from(edits.with_width(LARGE, 0.5), 80)


def test_another_function_in_place_of_h_swish():
  swish = edits.h_swish_as(LARGE, "swish")
  assert [n == "swish" for n in nonlinearities(swish)] == [n == "hard_swish" for n in nonlinearities(LARGE)]
  assert edits.h_swish_as(LARGE, "relu") == edits.h_swish_from(LARGE, None)
  with pytest.raises(ArchitectureError, match="no h-swish"):
    edits.h_swish_as(zoo.mobilenetv2(), "relu")
  with pytest.raises(ArchitectureError, match="did you mean 'swish'"):
    edits.h_swish_as(LARGE, "swiss")


def test_squeeze_excite():
  assert cost.params(edits.with_se(LARGE, ratio=0)) == 3_970_752
  assert cost.params(edits.with_se(LARGE, of="input", divisor=1)) == 4_228_718
  assert edits.with_se(LARGE) == LARGE
  gate = edits.with_se(SMALL, gate="sigmoid")
  assert {b.se.gate for b in gate.blocks if b.se} == {"sigmoid"} and cost.params(gate) == cost.params(SMALL)
  assert [b.se is None for b in gate.blocks] == [b.se is None for b in SMALL.blocks]
  with pytest.raises(ArchitectureError, match="none to change"):
    edits.with_se(edits.with_se(LARGE, ratio=0), ratio=0.5)
  with pytest.raises(ArchitectureError, match="se ratio=-1"):
    edits.with_se(LARGE, ratio=-1)


def test_squeeze_widths_are_rounded_to_eights_or_not():
  se = SqueezeExcite(ratio=0.25)
  assert [se.channels(0, e) for e in (16, 72, 120, 240, 672, 960)] == [8, 24, 32, 64, 168, 240]
  assert dataclasses.replace(se, divisor=1).channels(0, 72) == 18


def test_stem_and_last_stage_cost_what_the_paper_says():
  stem = edits.with_stem(LARGE, 32)
  assert round((cost.madds(stem) - cost.madds(LARGE)) / 1e6, 1) == 10.4 and stem.blocks[0].expand == 32
  original = edits.with_last_stage(LARGE, "original")
  assert (cost.params(original), cost.madds(original)) == (4_983_512, 250_907_520)
  assert edits.with_last_stage(LARGE, "efficient") == LARGE
  assert edits.with_last_stage(original, "efficient") == LARGE
  with pytest.raises(ArchitectureError, match="no expanding last bottleneck"):
    edits.with_last_stage(zoo.mobilenetv1(), "efficient")
  with pytest.raises(ArchitectureError, match="apply the width after"):
    edits.with_last_stage(edits.with_width(LARGE, 0.5), "original")
  with pytest.raises(ArchitectureError, match="did you mean 'original'"):
    edits.with_last_stage(LARGE, "origina")


@pytest.mark.parametrize(("stride", "last"), [(32, 7), (16, 14), (8, 28)])
def test_output_stride_keeps_parameters_and_reach(stride, last):
  a = edits.with_output_stride(LARGE, stride)
  assert [layer.out_size for layer in cost.layers(a) if layer.name == "features"] == [last]
  assert cost.params(a) == cost.params(LARGE)


def test_output_stride_16_is_slims():
  a = edits.with_output_stride(LARGE, 16)
  assert [(b.stride, b.dilation) for b in a.blocks[12:]] == [(1, 1), (1, 2), (1, 2)]
  with pytest.raises(ArchitectureError, match="8, 16 or 32"):
    edits.with_output_stride(LARGE, 4)
  for stride in (8, 32):
    with pytest.raises(ArchitectureError, match="atrous already"):
      edits.with_output_stride(a, stride)


def test_edits_compose_in_the_houses_order():
  a = edits.with_width(edits.h_swish_from(edits.with_se(edits.with_stem(LARGE, 32), ratio=0.5), 112), 0.5)
  assert a.stem.filters == 16 and a.width == 0.5 and a.blocks[4].se.ratio == 0.5
  assert [b.activation for b in a.blocks].index("hard_swish") == 10


def test_stem_alone():
  relu = edits.with_stem(LARGE, activation="relu")
  assert relu.stem.activation == "relu" and relu.blocks == LARGE.blocks and edits.with_stem(LARGE) == LARGE
  with pytest.raises(ArchitectureError, match="did you mean 'relu6'"):
    edits.with_stem(LARGE, activation="relu66")
  with pytest.raises(ArchitectureError, match="apply the width after"):
    edits.with_stem(edits.with_width(LARGE, 0.5), 32)


def test_v1_has_its_non_linearity_after_both_convolutions():
  v1 = edits.h_swish_from(zoo.mobilenetv1(), 512)
  assert [(b.activation, b.project_activation) for b in v1.blocks[4:6]] == [("relu", "relu"), ("hard_swish", "hard_swish")]
  assert {b.project_activation for b in edits.h_swish_as(v1, "swish").blocks} == {"relu", "swish"}
  assert {b.project_activation for b in edits.minimalistic(zoo.mobilenetv2()).blocks} == {"linear"}


def test_expansions_by_name():
  a = edits.with_expansions(LARGE, {"block_02": 48})
  assert [b.expand for b in a.blocks[:3]] == [16, 48, 72] and a.blocks[2:] == LARGE.blocks[2:]
  with pytest.raises(ArchitectureError, match="did you mean 'block_02'"):
    edits.with_expansions(LARGE, {"blok_02": 48})
  with pytest.raises(ArchitectureError, match="expand=0"):
    edits.with_expansions(LARGE, {"block_02": 0})


# expansions, outputs and the last 1x1 convolution as the authors' code has them for the two tasks
@pytest.mark.parametrize(
  ("network", "task", "expansions", "out", "features"),
  [
    (LARGE, "segmentation", [336, 480, 480], 80, 480),
    (LARGE, "detection", [672, 480, 480], 80, 480),
    (SMALL, "segmentation", [144, 288, 288], 48, 288),
    (SMALL, "detection", [288, 288, 288], 48, 288),
  ],
)
def test_halved_tails(network, task, expansions, out, features):
  a = edits.with_halved_tail(network, task)
  assert [b.expand for b in a.blocks[-3:]] == expansions
  assert {b.out for b in a.blocks[-3:]} == {out} and a.features.filters == features and a.head.hidden == network.head.hidden
  assert a.blocks[:-3] == network.blocks[:-3]
  for stride in (8, 16):
    there, back = edits.with_output_stride(a, stride), edits.with_halved_tail(edits.with_output_stride(network, stride), task)
    assert there == back


def test_the_halved_tail_has_the_parameters_of_table_7():
  """Trunk and R-ASPP head of 256 filters and 19 classes: 2.11 / 1.15 for V2, 3.60 / 1.76 for V3 as printed."""

  def segmenter(a, trunk):
    skipped = {"hidden", "logits"} | (set() if a.head.hidden else {"features"})
    body = sum(layer.params for layer in cost.layers(a) if layer.name not in skipped)
    f = 256
    return body + 2 * (trunk * f + 2 * f) + (2 * f * f + 2 * f) + f * 19 + 19

  v2 = zoo.mobilenetv2()
  assert [segmenter(v2, 320), segmenter(edits.with_halved_tail(v2, "segmentation"), 160)] == [2_113_043, 1_159_123]
  assert [segmenter(LARGE, 960), segmenter(edits.with_halved_tail(LARGE, "segmentation"), 480)] == [3_600_963, 1_762_435]


def test_halved_tail_refuses():
  with pytest.raises(ArchitectureError, match="did you mean 'detection'"):
    edits.with_halved_tail(LARGE, "detectio")
  with pytest.raises(ArchitectureError, match="apply the width after"):
    edits.with_halved_tail(edits.with_width(LARGE, 0.5), "detection")
  for network in (LARGE, SMALL, zoo.mobilenetv2(), zoo.mnasnet_a1()):
    with pytest.raises(ArchitectureError, match="halved already"):
      edits.with_halved_tail(edits.with_halved_tail(network, "detection"), "segmentation")
  shallow = LARGE.replace(blocks=LARGE.blocks[:6])
  with pytest.raises(ArchitectureError, match="stride 32"):
    edits.with_halved_tail(shallow, "detection")


EDITS = {
  "last_stage": lambda a: edits.with_last_stage(a, "original"),
  "stem": lambda a: edits.with_stem(a, 32, "relu"),
  "minimalistic": edits.minimalistic,
  "se": lambda a: edits.with_se(a, ratio=0),
  "h_swish": lambda a: edits.h_swish_from(a, 112),
  "relu6": lambda a: edits.h_swish_as(a, "relu6"),
  "output_stride": lambda a: edits.with_output_stride(a, 16),
  "halved_tail": lambda a: edits.with_halved_tail(a, "detection"),
}


@given(strategies.sets(strategies.sampled_from(sorted(EDITS))), strategies.sampled_from(sorted(zoo.MODELS)))
def test_edits_compose_on_every_model(chosen, model):
  a = zoo.MODELS[model]()
  for name in EDITS:
    nothing = {
      "last_stage": model == "mobilenetv1",
      "se": not any(b.se for b in a.blocks),
      "relu6": "hard_swish" not in nonlinearities(a),
    }
    if name in chosen and not nothing.get(name):
      a = EDITS[name](a)
  a = edits.with_width(a, 0.75)
  assert cost.params(a) > 0 and a.width == 0.75
  assert all(b.expand % 8 == 0 and b.out % 8 == 0 for b in a.blocks)
