"""Counts, to the last digit."""

import json

import pytest
from conftest import ROOT

from mnv3_jax.architectures import cost, edits, zoo

COUNTS = json.loads((ROOT / "tests" / "paper_tables.json").read_text())["exact_counts"]["rows"]


NAMES = {
  "MobileNetV3-Large": "mobilenetv3_large",
  "MobileNetV3-Small": "mobilenetv3_small",
  "MobileNetV3-Large minimalistic": "mobilenetv3_large_minimalistic",
  "MobileNetV3-Small minimalistic": "mobilenetv3_small_minimalistic",
  "MobileNetV1": "mobilenetv1",
  "MobileNetV2": "mobilenetv2",
  "MnasNet-A1": "mnasnet_a1",
  "MnasNet-small (released)": "mnasnet_small",
}


# beyond the paper: parameters and multiply-adds of timm's networks, at the sizes that it names them by
MOBILENETV4 = (
  ("mobilenetv4_conv_small", 1.0, 224, 3_774_024, 186_005_568),
  ("mobilenetv4_conv_small", 0.5, 224, 2_238_952, 64_741_408),
  ("mobilenetv4_conv_small", 0.35, 224, 1_905_384, 47_723_040),
  ("mobilenetv4_conv_medium", 1.0, 256, 9_715_512, 1_080_244_224),
  ("mobilenetv4_conv_large", 1.0, 384, 32_590_864, 6_376_220_672),
)


@pytest.mark.parametrize(("name", "width", "resolution", "params", "madds"), COUNTS)
def test_every_model_width_and_resolution(name, width, resolution, params, madds):
  a = edits.with_width(zoo.MODELS[NAMES[name]]().replace(resolution=resolution), width)
  assert (cost.params(a), cost.madds(a)) == (params, madds)


@pytest.mark.parametrize(("name", "width", "resolution", "params", "madds"), MOBILENETV4)
def test_mobilenetv4_is_counted_as_timm_does(name, width, resolution, params, madds):
  a = edits.with_width(zoo.MODELS[name]().replace(resolution=resolution), width, "timm_v4")
  assert (cost.params(a), cost.madds(a)) == (params, madds)


def test_every_model_is_counted():
  assert {*(NAMES[row[0]] for row in COUNTS), *(row[0] for row in MOBILENETV4)} == set(zoo.MODELS)


def test_layers_by_hand(tiny):
  layers = {layer.name: layer for layer in cost.layers(tiny)}
  assert layers["stem"].params == 3 * 3 * 3 * 8 + 16 and layers["stem"].madds == 8 * 8 * 3 * 3 * 3 * 8
  depthwise = layers["block_02/depthwise"]
  assert (depthwise.in_size, depthwise.out_size, depthwise.params, depthwise.madds) == (8, 4, 25 * 24 + 48, 16 * 25 * 24)
  assert layers["block_02/se/reduce"].params == 24 * 8 + 8 and layers["block_02/se/reduce"].madds == 24 * 8
  assert layers["logits"].params == 16 * 10 + 10 and layers["logits"].madds == 160
  assert "block_01/expand" not in layers
  assert sum(layer.params for layer in layers.values()) == cost.params(tiny)


def test_odd_sizes_round_up(tiny):
  sizes = [layer.out_size for layer in cost.layers(tiny.replace(resolution=17)) if layer.kind != "fc" and layer.in_size > 1]
  assert (sizes[0], sizes[-1]) == (9, 5)
