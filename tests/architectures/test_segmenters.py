"""Networks for segmentation as values: the counts of Tables 7 and 8, the pool's rule, the skip."""

import pytest

from mnv3_jax.architectures import cost, fields, rows
from mnv3_jax.architectures.heads import LRASPPHead
from mnv3_jax.architectures.spec import ArchitectureError

V2, LARGE, SMALL = "mobilenetv2", "mobilenetv3_large", "mobilenetv3_small"
# backbone, width, RF2, head, F, output stride: parameters in millions as Table 7 prints them, and multiply-adds in billions of
# these networks at 1024x2048 and 1025x2049, counted by hand from the official definitions (the paper prints 0.4 to 4 % more)
TABLES = [
  (V2, 1.0, False, "r_aspp", 256, 16, 2.11, 20.827, 21.233),
  (V2, 1.0, True, "r_aspp", 256, 16, 1.15, 13.402, 13.633),
  (V2, 1.0, True, "lr_aspp", 256, 16, 1.02, 12.567, 12.775),
  (V2, 1.0, True, "lr_aspp", 128, 16, 0.98, 12.319, 12.523),
  (LARGE, 1.0, False, "r_aspp", 256, 16, 3.60, 17.791, 18.156),
  (LARGE, 1.0, True, "r_aspp", 256, 16, 1.76, 10.830, 11.031),
  (LARGE, 1.0, True, "lr_aspp", 256, 16, 1.63, 9.951, 10.129),
  (LARGE, 1.0, True, "lr_aspp", 128, 16, 1.51, 9.368, 9.533),
  (V2, 0.5, True, "lr_aspp", 128, 16, 0.28, 3.900, 3.958),
  (V2, 0.35, True, "lr_aspp", 128, 16, 0.16, 2.462, 2.497),
  (SMALL, 1.0, True, "lr_aspp", 128, 16, 0.47, 2.729, 2.780),
  (LARGE, 1.0, True, "lr_aspp", 128, 32, 1.51, 7.446, 7.581),
  (SMALL, 1.0, True, "lr_aspp", 128, 32, 0.47, 1.925, 1.963),
]


def network(name=LARGE, width=1.0, rf2=True, head="lr_aspp", filters=128, stride=16, size=(1024, 2048), **changes):
  given = {"width": width, "halved_tail": "segmentation" if rf2 else None, "head": head, "head_filters": filters}
  given |= {"output_stride": stride, "resolution": size[0], "resolution_width": size[1], "num_classes": 19}
  return fields.architecture(name, **given | changes)


@pytest.mark.parametrize("row", TABLES)
def test_counts_are_those_of_tables_7_and_8(row):
  *what, params, full, odd = row
  assert cost.params(network(*what)) / 1e6 == pytest.approx(params, abs=0.02 if row[0] == V2 else 0.01)
  assert cost.madds(network(*what)) / 1e9 == pytest.approx(full, rel=5e-4)
  assert cost.madds(network(*what, size=(1025, 2049))) / 1e9 == pytest.approx(odd, rel=5e-4)


def test_halving_as_for_detection_is_another_count():
  assert cost.params(network(halved_tail="detection", rf2=False)) / 1e6 == pytest.approx(1.749, abs=1e-3)


def skip(a):
  return a.head.skip_map(a)


def test_the_skip_is_the_last_depthwise_map_at_stride_8():
  assert skip(network(LARGE)) == ("block_06/depthwise", 8, 120)
  assert skip(network(SMALL)) == ("block_03/depthwise", 8, 88)
  assert skip(network(V2)) == ("block_06/depthwise", 8, 192)
  assert skip(network(LARGE, head_skip="block")) == ("block_04", 8, 40)
  # a width scales it, an output stride does not move it
  assert skip(network(SMALL, width=0.5, stride=32))[:2] == ("block_03/depthwise", 8)


@pytest.mark.parametrize(
  ("pool", "size", "window", "pooled"),
  [
    ("paper", (64, 128), (49, 49), (1, 4)),
    ("paper", (65, 129), (49, 49), (2, 5)),
    ("paper", (49, 49), (49, 49), 1),
    # smaller than the kernel along one side or both: all of that side
    ("paper", (32, 64), (32, 49), 1),
    ("paper", (6, 6), (6, 6), 1),
    ("release", (32, 64), (25, 25), (2, 8)),
    ("release", (33, 65), (25, 25), (3, 9)),
    ("global", (64, 128), (64, 128), 1),
  ],
)
def test_a_pool_is_never_larger_than_its_map(pool, size, window, pooled):
  s = LRASPPHead(pool=pool)
  assert s.window(size)[0] == window and s.pooled(size) == pooled


def test_which_blocks_are_dilated():
  slim, torchvision = ([b.dilation for b in network(atrous=rule).blocks[-3:]] for rule in (None, "torchvision"))
  assert slim == [1, 2, 2] and torchvision == [2, 2, 2]
  assert [b.stride for b in network().blocks].count(2) == 3
  # at output stride 8, as slim: rates 1, 2 for what lost the first stride, then 2, 4
  eight = fields.architecture(LARGE, output_stride=8, head="r_aspp")
  assert [b.dilation for b in eight.blocks[6:]] == [1, 2, 2, 2, 2, 2, 2, 4, 4]


def test_rows_by_name_and_in_print():
  a = network()
  assert rows.names(a)[-5:] == ["features", "filter", "gate", "logits", "skip_logits"]
  assert {row for row, f in rows.factors(a, "backbone=0").items() if f} == {"filter", "gate", "logits", "skip_logits"}
  lines = str(a).splitlines()
  assert lines[1].split()[0] == "1024×2048×3" and len({len(line) for line in lines}) <= 2
  assert "pool 49×49" in str(a) and "16,20" in str(a)
  # what is counted stands in the table, and nothing else
  counted = {layer.name.split("/")[0] for layer in cost.layers(a)}
  assert counted | {"pool"} == {name for name, _ in a.table()}
  assert rows.names(network(head="r_aspp", filters=256))[-4:] == ["filter", "pooled", "merge", "logits"]


def test_r_aspp_drops_what_is_asked_for():
  found = {d: fields.architecture(LARGE, head="r_aspp", dropout=d).head.dropout for d in (None, 0.0, 0.4)}
  assert found == {None: 0.1, 0.0: 0.0, 0.4: 0.4}


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"head": "lraspp"}, "did you mean 'lr_aspp'"),
    ({"head": "lr_aspp", "head_pool": "large"}, "choose one of paper, release, global"),
    ({"head": "lr_aspp", "head_filters": 0}, "filters=0"),
    ({"head": "r_aspp", "head_gate": "sigmoid"}, "r_aspp has no gate; lr_aspp has one"),
    ({"head": "lr_aspp", "output_stride": 8}, "output stride 16 or 32"),
    ({"head_filters": 128}, "head_filters=128; classifier has no filters; lr_aspp and r_aspp have one"),
    ({"head": "lr_aspp", "dropout": 0.1}, "dropout=0.1; lr_aspp has no dropout; classifier and r_aspp have one"),
    ({"resolution_width": 0}, "resolution=0"),
    ({"output_stride": 16, "atrous": "torch"}, "did you mean 'torchvision'"),
  ],
)
def test_what_cannot_be_is_named(changes, words):
  with pytest.raises(ArchitectureError, match=words):
    fields.architecture(LARGE, **changes)
