"""Universal and fused inverted bottlenecks: their layers, text, widths and edits, and what cannot be one."""

import dataclasses

import pytest
from conftest import tiny_architecture

from mnv3_jax.architectures import channels, cost, edits, fields, zoo
from mnv3_jax.architectures.spec import ArchitectureError, Block, FusedBlock, SqueezeExcite, UniversalBlock

SMALL = (
  "f3_o32_s2_re_act,f3_x3_o64_s2_re_act,u5k5_x3_o96_s2_re,"
  + 4 * "u0k3_x2_o96_s1_re,"
  + "u3k0_x4_o96_s1_re,u3k3_x6_o128_s2_re,u5k5_x4_o128_s1_re,u0k5_x4_o128_s1_re,u0k5_x3_o128_s1_re,"
  + "u0k3_x4_o128_s1_re,u0k3_x4_o128_s1_re"
)


def universal(**changes):
  return UniversalBlock(**{"start": 5, "kernel": 3, "expand": 64, "out": 24, "stride": 2, "activation": "relu", **changes})


def fused(**changes):
  return FusedBlock(**{"kernel": 3, "expand": 64, "out": 24, "stride": 2, "activation": "relu", **changes})


def test_the_layers_of_every_universal_block():
  """(name, kind, channels, activation, kernel, stride): the four blocks of Figure 4 of the MobileNetV4 paper."""
  start = ("start_depthwise", "depthwise", 16, "linear", 5)
  expand = ("expand", "pointwise", 64, "relu", 1, 1)
  middle = ("depthwise", "depthwise", 64, "relu", 3)
  project = ("project", "pointwise", 24, "linear", 1, 1)
  found = {kernels: universal(start=kernels[0], kernel=kernels[1]).layers(16) for kernels in ((5, 3), (5, 0), (0, 3))}
  assert [x[:6] for x in found[5, 3]] == [(*start, 1), expand, (*middle, 2), project]
  assert [x[:6] for x in found[5, 0]] == [(*start, 2), expand, project]
  assert [x[:6] for x in found[0, 3]] == [expand, (*middle, 2), project]
  assert [x[:6] for x in universal(start=0, kernel=0, stride=1).layers(16)] == [expand, project]
  # an expansion to as many channels is a convolution, as it is in no other kind
  assert len(universal(start=0, kernel=3, expand=16).layers(16)) == len(Block(**EQUAL).layers(16)) + 1 == 3
  squeezed = universal(kernel=0, se=SqueezeExcite()).layers(16)
  assert [layer.name for layer in squeezed] == ["start_depthwise", "expand", "se", "project"] and squeezed[2].channels == 16


EQUAL = {"kernel": 3, "expand": 16, "out": 24, "stride": 2, "activation": "relu"}


def test_the_layers_of_a_fused_block():
  assert [x[:6] for x in fused(se=SqueezeExcite(), project_activation="relu").layers(16)] == [
    ("expand", "conv", 64, "relu", 3, 2),
    ("se", "se", 16, "hard_sigmoid", 1, 1),
    ("project", "pointwise", 24, "relu", 1, 1),
  ]


@pytest.mark.parametrize("padding", ["same", "symmetric", "keras_v1"])
def test_sizes_and_channels_of_maps(padding):
  blocks = (fused(), universal(expand=48, out=40), universal(kernel=0, expand=80, out=48), universal(stride=1, out=48))
  net = tiny_architecture(blocks=blocks, padding=padding, resolution=37)
  found = {layer.name: layer for layer in cost.layers(net)}
  # an ordinary convolution is no depthwise one, whose last row and column Keras's padding of V1 loses
  assert found["block_01/expand"].out_size == 10
  assert found["block_02/start_depthwise"].out_size == 10 and found["block_02/depthwise"].out_size == 5
  last = 2 if padding == "keras_v1" else 3
  assert found["block_03/start_depthwise"].out_size == found["block_03/expand"].in_size == last == net.last_map()[0]
  assert [layer.out_channels for name, layer in found.items() if name.startswith("block_02")] == [24, 48, 48, 40]
  assert found["block_01/expand"].weights == 9 * 8 * 64
  # the depthwise convolution before the expansion computes channels of the stream
  groups = {x.layer.name: (x.inputs, x.output) for x in channels.layers(net)}
  assert groups["block_02/start_depthwise"] == (("block_01",), "block_01")
  assert groups["block_04/start_depthwise"] == (("block_03",), "block_03") and groups["block_04/project"][1] == "block_03"
  assert [cells[1] for name, cells in net.table() if name.startswith("block")] == [
    "fused 3×3", "uib 5×5 3×3", "uib 5×5 -", "uib 5×5 3×3"
  ]  # fmt: skip


def test_blocks_as_text_are_the_rows_of_the_zoo():
  small = zoo.mobilenetv4_conv_small()
  assert fields.architecture("mobilenetv4_conv_small", blocks=SMALL) == small
  assert fields.architecture("mobilenetv1", blocks="k3_o64_s1_r6_act_noskip").blocks == zoo.mobilenetv1().blocks[:1]
  (block,) = fields.architecture("mobilenetv4_conv_medium", blocks="u0k7_o48_s1_hs_se0.25_noskip").blocks
  assert block == universal(
    start=0, kernel=7, expand=32, out=48, stride=1, activation="hard_swish", se=SqueezeExcite(), residual=False
  )


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("u5_x4_o48_s1_re", "expected blocks such as"),
    ("u5f3_x4_o48_s1_re", "expected blocks such as"),
    ("f0_x4_o48_s1_re", "invalid kernel=0; expected a whole number of at least 1"),
    ("k0_x4_o48_s1_re", "invalid kernel=0; expected a whole number of at least 1"),
    ("u4k3_x4_o48_s1_re", "invalid start=4; expected an odd number"),
    ("u3k2_x4_o48_s1_re", "invalid kernel=2; expected an odd number"),
    ("u0k0_x4_o48_s2_re", "invalid stride=2; expected 1 in a block without depthwise convolutions"),
  ],
)
def test_impossible_blocks(text, message):
  with pytest.raises(ArchitectureError, match=message):
    fields.architecture("mobilenetv4_conv_small", blocks=text)


def test_a_hidden_layer_with_batch_norm():
  found = {layer.name: layer for layer in cost.layers(zoo.mobilenetv4_conv_small())}
  assert found["hidden"].norm and found["hidden"].params == 960 * 1280 + 2 * 1280
  assert str(zoo.mobilenetv4_conv_small()).splitlines()[-2].split()[1:3] == ["conv2d", "1×1"]
  net = tiny_architecture()
  with pytest.raises(ArchitectureError, match="tiny, head: invalid hidden_norm=True; expected False without a hidden layer"):
    net.replace(head=dataclasses.replace(net.head, hidden=None, hidden_norm=True))
  assert not edits.with_last_stage(zoo.mobilenetv4_conv_small(), "original").head.hidden_norm


def test_edits():
  medium = zoo.mobilenetv4_conv_medium()
  plain = edits.minimalistic(medium)
  assert {size for block in plain.blocks for size in block.kernels.values()} == {3}
  assert [tuple(block.kernels) for block in plain.blocks] == [tuple(block.kernels) for block in medium.blocks]
  atrous = edits.with_output_stride(medium, 16)
  (strided,) = [block for block in atrous.blocks if block.out == 256 and block.expand == 960]
  assert strided.stride == 1 and atrous.last_map()[0] == 14 and atrous.blocks[-1].layers(256)[0].dilation == 2
  halved = edits.with_halved_tail(medium, "segmentation")
  assert (halved.blocks[-1].expand, halved.blocks[-1].out, halved.features.filters) == (256, 128, 480)
  # widths that a search has found
  cut = edits.with_channels(medium, {"block_01": (96, 40), "block_02": (160, 72), "block_03": (72, 72)})
  assert cut.blocks[2].expand == 72 and cut.blocks[2].expands(72)
  with pytest.raises(ArchitectureError, match="this adds or removes a residual connection"):
    edits.with_channels(medium, {"block_02": (192, 72)})
  assert edits.h_swish_from(medium, 160).blocks[0].activation == "relu"
  for head in ("lr_aspp", "r_aspp", "ssdlite"):
    assert cost.params(edits.with_head(medium, head)) > 0


def test_the_map_that_a_head_takes_where_a_block_has_no_middle_depthwise_convolution():
  blocks = (fused(), universal(kernel=0, expand=72, out=40), universal(stride=2, expand=120, out=48))
  net = edits.with_head(tiny_architecture(blocks=(fused(out=16), *blocks), resolution=64), "lr_aspp")
  assert net.head.skip_map(net) == ("block_02/expand", 8, 64)
