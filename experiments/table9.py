"""Table 9, the data of Figures 1, 2 and 7: width multipliers and resolutions.

Command:  mnv3 table table9 --scale mini --runs experiments/results
Machine:  sizes: any; kept latencies: two cores of an Intel Xeon
Result:   sizes as printed but where marked. ImageNet was not run
"""

import pathlib
from collections.abc import Iterator

from mnv3_jax.tables import plots
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import PlotFile, Row, Table

# resolution, multiplier, top-1, MAdds, parameters, Pixel 1; Small at 192 px is of the first version
LARGE = (
  (224, 1.25, "76.6", "356", "7.5", "77.0"),
  (224, 1.0, "75.2", "217", "5.4", "51.2"),
  (224, 0.75, "73.3", "155", "4.0", "39.8"),
  (224, 0.5, "68.8", "69", "2.6", "21.7"),
  (224, 0.35, "64.2", "40", "2.2", "15.1"),
  (256, 1.0, "76.0", "282", "5.4", "65.6"),
  (192, 1.0, "73.7", "160", "5.4", "38.0"),
  (160, 1.0, "71.7", "112", "5.4", "27.8"),
  (128, 1.0, "68.4", "73", "5.4", "17.8"),
  (96, 1.0, "63.3", "43", "5.4", "12.5"),
)
SMALL = (
  (224, 1.25, "70.4", "91", "3.6", "23.6"),
  (224, 1.0, "67.5", "57", "2.5", "15.8"),
  (224, 0.75, "65.4", "44", "2.0", "12.8"),
  (224, 0.5, "58.0", "21", "1.6", "7.7"),
  (224, 0.35, "49.8", "12", "1.4", "5.7"),
  (256, 1.0, "68.5", "74", "2.5", "20.0"),
  (192, 1.0, "65.4", "42", None, None),
  (160, 1.0, "62.8", "30", "2.5", "8.6"),
  (128, 1.0, "57.3", "20", "2.5", "5.8"),
  (96, 1.0, "51.7", "12", "2.5", "4.4"),
)


def _rows(family: str, model: str, printed: tuple[tuple, ...]) -> Iterator[Row]:
  for resolution, width, top1, madds, params, ms in printed:
    changed = {"width": (width, 1.0), "resolution": (resolution, 224)}
    paper = {"top1": top1, "madds_M": madds, "params_M": params, "P1_ms": ms}
    yield Row(
      name=f"{family} {width:g}, {resolution} px",
      model=model,
      family=family,
      fields={field: value for field, (value, usual) in changed.items() if value != usual},
      paper={column: text for column, text in paper.items() if text},
    )


def draw(results: list[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
  """Draws accuracy over resolutions at multiplier 1, and over multipliers at 224 px."""
  made = []
  for name, other, usual in (("resolution", "width", 1.0), ("width", "resolution", 224)):
    chosen = [r for r in results if getattr(r.row.architecture(), other) == usual]
    made += plots.tradeoff("table9", name)(chosen, scale, folder)
  return made


TABLE = Table(
  title="Multipliers and resolutions",
  source="Table 9 of arXiv 1905.02244v5",
  rows=(*_rows("V3-Large", "mobilenetv3_large", LARGE), *_rows("V3-Small", "mobilenetv3_small", SMALL)),
  notes=(
    "The row of Small at 192 px is of the first version: accuracy and MAdds are from there.",
    "Small 1.0 has 67.5 % here and 67.4 % in Table 3. No width rule gives 2.2 M parameters for Large 0.35.",
    "Widths by the rule that the printed sizes fit: stem and outputs scaled, the last layer kept below 1 and 1280 above.",
  ),
  draw=draw,
)
