"""What a table can show of a row: sizes, what runs have reached, latencies; and what the paper prints beside each."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """One of our figures.

  Attributes:
    head: what stands above it.
    paper: {figure that the paper prints of it: what stands above that}.
  """

  head: str
  paper: dict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure(Column):
  """What runs have reached, in percent.

  Attributes:
    key: as tasks/ and result.json call it; it is the column's name too, and that of what the paper prints on the same data.
    called, begins: as people call it, and at the beginning of a sentence.
    besides: other figures of the same test, for CSV.
    timms: whether CSV has the columns of timm's result files: errors, and how photos were cut out.
    tolerance: points that single runs of the same recipe may be apart; the paper has one run of each.
    of: whose data the paper's figure is of.
  """

  key: str
  called: str
  begins: str
  besides: tuple = ()
  timms: bool = False
  tolerance: float
  of: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency(Column):
  """Milliseconds of a .tflite file.

  Attributes:
    suffix: of the file's name.
    fused: whether h-swish is one operator.
    half: whether the input has half the row's height and width.
  """

  suffix: str = ""
  fused: bool = True
  half: bool = False


FIGURES = {
  "top1": Figure(
    head="top-1, %",
    paper={"top1": "paper, ImageNet"},
    key="top1",
    called="top-1",
    begins="Top-1",
    besides=("top5",),
    timms=True,
    tolerance=0.5,
    of="ImageNet",
  ),
  # the test set's labels are not public: what the paper prints of it stands beside ours of the validation set
  "miou": Figure(
    head="mIoU, %",
    paper={"miou": "paper, Cityscapes val", "miou_test": "paper, Cityscapes test"},
    key="miou",
    called="mIoU",
    begins="mIoU",
    besides=("pixel_accuracy",),
    tolerance=1.0,
    of="Cityscapes",
  ),
}
LATENCIES = {
  "ms": Latency(head="ms", paper={"P1_ms": "Pixel 1", "P2_ms": "Pixel 2", "P3_ms": "Pixel 3", "P3_s": "Pixel 3, s"}),
  "ms_half": Latency(head="ms, half size", paper={"P3_half_ms": "Pixel 3, half size"}, suffix="_half", half=True),
  "ms_parts": Latency(head="ms, h-swish in parts", paper={"P1_parts_ms": "Pixel 1, in parts"}, suffix="_parts", fused=False),
}
SIZES = {
  "params": Column(head="parameters", paper={"params_M": "paper, M"}),
  "madds": Column(head="MAdds", paper={"madds_M": "paper, M", "madds_B": "paper, B"}),
  "madds_half": Column(head="MAdds, half size", paper={"madds_half_B": "paper, B"}),
}
COLUMNS = {**SIZES, **FIGURES, **LATENCIES}
# all that the paper may print of a row
PAPER = tuple(printed for column in COLUMNS.values() for printed in column.paper)
# sizes as the paper prints them: (what it is, how many are one, the unit)
UNITS = {
  "params_M": ("parameters", 1e6, "M"),
  "madds_M": ("MAdds", 1e6, "M"),
  "madds_B": ("MAdds", 1e9, "B"),
  "madds_half_B": ("MAdds", 1e9, "B"),
}
