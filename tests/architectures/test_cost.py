"""Counts, to the last digit."""

import json

import pytest
from conftest import ROOT

from mnv3_jax.architectures import cost, edits, zoo

COUNTS = json.loads((ROOT / "tests" / "paper_tables.json").read_text())["exact_counts"]["rows"]


@pytest.mark.parametrize(
  ("model", "params", "madds"),
  [("mobilenetv3_large", 5_483_032, 216_589_760), ("mobilenetv3_small", 2_542_856, 56_510_400)],
)
def test_golden_counts(model, params, madds):
  a = zoo.MODELS[model]()
  assert (cost.params(a), cost.madds(a)) == (params, madds)


@pytest.mark.parametrize(("name", "width", "resolution", "params", "madds"), COUNTS)
def test_every_width_and_resolution_of_the_paper(name, width, resolution, params, madds):
  size, *variant = name.removeprefix("MobileNetV3-").lower().split()
  a = zoo.MODELS[f"mobilenetv3_{size}"]().replace(resolution=resolution)
  if variant == ["minimalistic"]:
    a = edits.minimalistic(a)
  a = edits.with_width(a, width)
  assert (cost.params(a), cost.madds(a)) == (params, madds)


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
