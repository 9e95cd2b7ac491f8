"""Sizes of detectors as Table 6 of arXiv 1905.02244v5 prints them, and the rule of counting that gives them.

Printed parameters have batch norm folded into the kernels: one bias for each channel in place of scale and offset. The rows
differ in the number of class slots: those of V3 and the narrow V2 have 90, the classes of COCO's ids without a background; V1
and V2 are taken from the V2 paper, which counted 80 classes; those of MnasNet fit 91, the background counted. Multiply-adds are
those of the network as it is built, with 91 slots.
"""

import dataclasses
from typing import Any

from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.spec import Architecture

RESOLUTION = 320


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorRow:
  """One printed row.

  Attributes:
    name: as printed.
    model, fields: of config.model; the head is ssdlite at 320 px.
    slots: of classes, of which the parameters are counted.
    params, madds: as printed, in millions and in thousands of millions.
    note: known reason where the count differs by more than the rounding.
  """

  name: str
  model: str
  fields: dict[str, Any]
  slots: int
  params: str
  madds: str
  note: str = ""

  def architecture(self, num_classes: int = 90) -> Architecture:
    """Builds the network of this row, by default for COCO's 90 classes and the background."""
    more = {"head": "ssdlite", "resolution": RESOLUTION, "num_classes": num_classes}
    return fields.architecture(self.model, **self.fields, **more)

  def counted(self) -> tuple[int, int]:
    """Counts (parameters, multiply-adds) by this row's rule."""
    # the first slot is the background's
    return cost.folded_params(self.architecture(self.slots - 1)), cost.madds(self.architecture())

  @property
  def counted_as(self) -> str:
    """Rule of counting as text."""
    return f"params: batch norm folded, {self.slots} class slots; MAdds: 91 slots" + (f"; {self.note}" if self.note else "")


LARGE, SMALL, V2, MNASNET = "mobilenetv3_large", "mobilenetv3_small", "mobilenetv2", "mnasnet_a1"
# Below width 1.0 the last 1x1 convolution is scaled with all others
HALF, THIRD = ({"width": width, "width_rule": "detection"} for width in (0.5, 0.35))
DAGGER = {"halved_tail": "detection"}

ROWS = (
  DetectorRow(name="V1", model="mobilenetv1", fields={}, slots=80, params="5.1", madds="1.3"),
  DetectorRow(name="V2", model=V2, fields={}, slots=80, params="4.3", madds="0.8"),
  DetectorRow(
    name="MnasNet", model=MNASNET, fields={}, slots=91, params="4.88", madds="0.84", note="params 0.14 % above the printed ones"
  ),
  DetectorRow(
    name="V3", model=LARGE, fields={}, slots=90, params="4.97", madds="0.62", note="MAdds 1.1 % below the printed ones"
  ),
  DetectorRow(name="V3 (dagger)", model=LARGE, fields=DAGGER, slots=90, params="3.22", madds="0.51"),
  DetectorRow(
    name="V2 0.35",
    model=V2,
    fields=THIRD,
    slots=90,
    params="0.93",
    madds="0.16",
    note="MAdds 4.2 % above the printed ones, which 80 slots give",
  ),
  DetectorRow(name="V2 0.5", model=V2, fields=HALF, slots=90, params="1.54", madds="0.27"),
  DetectorRow(name="MnasNet 0.35", model=MNASNET, fields=THIRD, slots=91, params="1.02", madds="0.18"),
  DetectorRow(name="MnasNet 0.5", model=MNASNET, fields=HALF, slots=91, params="1.68", madds="0.29"),
  DetectorRow(name="V3-Small", model=SMALL, fields={}, slots=90, params="2.49", madds="0.21"),
  DetectorRow(name="V3-Small (dagger)", model=SMALL, fields=DAGGER, slots=90, params="1.77", madds="0.16"),
)
