"""Heads as values: the description that everything else derives from, and a head of a test's own."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np
import pytest

from mnv3_jax.architectures import cost, edits, fields, heads, rows
from mnv3_jax.architectures.heads import HEADS, HeadLayer, LRASPPHead, RASPPHead
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.models import network
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute, Conv1x1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxHead:
  """A box at every place of the last map."""

  name: ClassVar[str] = "boxes"
  task: ClassVar[str] = "boxes"

  sides: int = 4

  def validate(self, row, architecture):
    if self.sides != 4:
      raise ArchitectureError(f"{row}: sides={self.sides}")

  def layers(self, architecture, size, channels):
    fields = {"in_size": size, "out_size": size, "in_channels": channels, "norm": False}
    return (HeadLayer(name="boxes", kind="conv", out_channels=self.sides, **fields),)

  def output_shape(self, architecture):
    size, _ = architecture.last_map()
    return (size, size, self.sides)


class Boxes(nn.Module):
  net: object
  compute: Compute = Compute()

  def setup(self):
    self.backbone = Backbone(self.net, self.compute)
    self.boxes = Conv1x1(self.compute, self.net.head.sides)

  def __call__(self, x_bhwc, train=False):
    return self.boxes(self.backbone(x_bhwc, train)["features"])


def test_a_head_is_added_by_its_class_and_its_module(tiny, monkeypatch):
  with pytest.raises(ArchitectureError, match="head"):
    tiny.replace(head=BoxHead())
  monkeypatch.setitem(heads.HEADS, "boxes", BoxHead)
  monkeypatch.setitem(network.MODULES, BoxHead, Boxes)
  a = edits.with_head(tiny, "boxes")
  assert a.features == tiny.features and rows.names(a) == [*rows.names(tiny)[:-2], "boxes"]
  assert cost.params(a) == cost.params(tiny) - (33 * 16 + 17 * 10) + 33 * 4
  assert rows.convolutions(a) == ("boxes",) and rows.per_class(a) == ()
  assert str(a).splitlines()[-1].split() == ["4²×32", "conv2d", "1×1,", "NBN", "-", "4", "-", "-", "1"]
  with pytest.raises(ArchitectureError, match="boxes has no filters; lr_aspp and r_aspp have one"):
    edits.with_head(tiny, "boxes", filters=8)
  model = network.network(a)
  variables = initialize(model, 0)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == cost.params(a)
  x = np.zeros((2, *a.image_shape), np.float32)
  assert jax.eval_shape(model.apply, variables, x).shape == (2, *a.head.output_shape(a))


@pytest.mark.parametrize("name", HEADS)
def test_rows_by_what_they_are(name):
  stride = 32 if name == "ssdlite" else 16
  a = fields.architecture("mobilenetv3_small", head=name, output_stride=stride)
  predictors = {row: tuple(f"{row}_{i}" for i in range(6)) for row in ("boxes", "classes")}
  per_class = {"lr_aspp": ("logits", "skip_logits"), "ssdlite": tuple(f"{row}/logits" for row in predictors["classes"])}
  per_class = per_class.get(name, ("logits",))
  convolutions = {
    "classifier": (),
    "lr_aspp": ("filter", "logits", "skip_logits"),
    "r_aspp": ("filter", "pooled", "merge", "logits"),
    "ssdlite": tuple(row for pair in zip(predictors["boxes"], predictors["classes"], strict=True) for row in pair),
  }
  assert rows.per_class(a) == per_class and rows.convolutions(a) == convolutions[name]
  wider = {
    layer.name for layer, other in zip(cost.layers(a), cost.layers(a.replace(num_classes=7)), strict=True) if layer != other
  }
  assert wider == set(per_class)
  shapes = {"classifier": (1000,), "ssdlite": (3 * 14**2 + 6 * (7**2 + 4**2 + 2**2 + 1 + 1), 4 + 91)}
  assert a.head.output_shape(a) == shapes.get(name, (224, 224, 1000))
  assert HEADS[a.head.name] is type(a.head)


def test_heads_whose_weights_fit_each_other():
  def net(**changes):
    return fields.architecture("mobilenetv3_small", **changes)

  assert rows.fitting(net(), net(dropout=0.5, num_classes=3)) == ("hidden",)
  assert rows.fitting(net(head="lr_aspp"), net(head="lr_aspp", head_pool="global", num_classes=3)) == ("filter", "gate")
  assert rows.fitting(net(head="lr_aspp"), net(head="lr_aspp", head_filters=64)) is None
  assert rows.fitting(net(head="lr_aspp"), net(head="lr_aspp", head_gate_bias=False)) is None
  assert rows.fitting(net(head="r_aspp"), net(head="lr_aspp", head_filters=256)) is None


def test_the_head_is_the_last_edit():
  dense = fields.architecture("mobilenetv3_large", head="lr_aspp")
  assert dense.head == LRASPPHead() and edits.with_head(fields.architecture("mobilenetv3_large"), "r_aspp").head == RASPPHead()
  for edit in (
    lambda a: edits.with_head(a, "r_aspp"),
    lambda a: edits.with_width(a, 0.5),
    lambda a: edits.with_last_stage(a, "original"),
    lambda a: edits.with_halved_tail(a, "segmentation"),
  ):
    with pytest.raises(ArchitectureError, match="lr_aspp"):
      edit(dense)
