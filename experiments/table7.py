"""Table 7: backbones and segmentation heads on the validation set of Cityscapes.

Command:  mnv3 table table7 --scale mini --runs experiments/results
Machine:  sizes: any; kept latencies: two cores of an Intel Xeon
Result:   parameters within 0.02 M of the printed ones. Cityscapes was not run; on small scenes every row trains
"""

from collections.abc import Iterator

from mnv3_jax.tables import plots
from mnv3_jax.tables.table import Row, Table

MODELS = {"V2": "mobilenetv2", "V3": "mobilenetv3_large", "V3-Small": "mobilenetv3_small"}
HEADS = {"R-ASPP": "r_aspp", "LR-ASPP": "lr_aspp"}
# input of sizes and latencies
SIZE = {"resolution": 1024, "resolution_width": 2048, "num_classes": 19}

# N, backbone, width, RF2, head, F, mIoU, parameters in M, MAdds in B, CPU(f) in s, CPU(h) in ms
PRINTED = (
  (1, "V2", 1.0, False, "R-ASPP", 256, "72.84", "2.11", "21.29", "3.90", "1020"),
  (2, "V2", 1.0, True, "R-ASPP", 256, "72.56", "1.15", "13.68", "3.03", "793"),
  (3, "V2", 1.0, True, "LR-ASPP", 256, "72.97", "1.02", "12.83", "2.98", "786"),
  (4, "V2", 1.0, True, "LR-ASPP", 128, "72.74", "0.98", "12.57", "2.89", "766"),
  (5, "V3", 1.0, False, "R-ASPP", 256, "72.64", "3.60", "18.43", "3.55", "906"),
  (6, "V3", 1.0, True, "R-ASPP", 256, "71.91", "1.76", "11.24", "2.60", "668"),
  (7, "V3", 1.0, True, "LR-ASPP", 256, "72.37", "1.63", "10.33", "2.55", "659"),
  (8, "V3", 1.0, True, "LR-ASPP", 128, "72.36", "1.51", "9.74", "2.47", "657"),
  (9, "V2", 0.5, True, "LR-ASPP", 128, "68.57", "0.28", "4.00", "1.59", "415"),
  (10, "V2", 0.35, True, "LR-ASPP", 128, "66.83", "0.16", "2.54", "1.27", "354"),
  (11, "V3-Small", 1.0, True, "LR-ASPP", 128, "68.38", "0.47", "2.90", "1.21", "327"),
)


def _rows() -> Iterator[Row]:
  for n, backbone, width, rf2, head, filters, miou, params, madds, full, half in PRINTED:
    model, kind = MODELS[backbone], HEADS[head]
    scaled = {} if width == 1 else {"width": width}
    run = [model, *(f"width={width:g}" for width in scaled.values()), *(["rf2"] if rf2 else []), kind, str(filters)]
    yield Row(
      name=f"{n}: {backbone}{f' {width:g}' if scaled else ''}{' RF2' if rf2 else ''}, {head} {filters}",
      model=model,
      fields={
        **scaled,
        "output_stride": 16,
        "halved_tail": "segmentation" if rf2 else None,
        "head": kind,
        "head_filters": filters,
        "head_pool": {"lr_aspp": "paper", "r_aspp": "global"}[kind],
        **SIZE,
      },
      run="-".join(run),
      family=f"{backbone}, {head}",
      paper={"miou": miou, "params_M": params, "madds_B": madds, "P3_s": full, "P3_half_ms": half},
    )


TABLE = Table(
  title="Backbones and segmentation heads on Cityscapes",
  source="Table 7 of arXiv 1905.02244v5",
  columns=("params", "madds", "miou", "ms", "ms_half"),
  rows=tuple(_rows()),
  notes=(
    "Rows by their number in the paper: backbone, RF2 (half the channels of the last blocks), head and its F, at output stride "
    "16.",
    "The paper does not say which layers RF2 halves in V2: here those of 160 and 320 outputs, which its parameters fit within "
    "0.02 M.",
    "Nor does it name the input size of its MAdds. At 1025x2049, DeepLab's crop for evaluation, those of V2 are 0.3 to "
    "1.7 % below what is printed, those of V3 1.5 to 2.1 %, those of V3-Small 4.1 %: what is missing there may be the "
    "products of squeeze-excite and h-swish, which are not counted here.",
    "LR-ASPP pools 49x49 with stride 16, 20 (Figure 10). The paper does not say how it pools at half size, where that kernel "
    "is larger than the map: here a kernel is never larger than the map.",
    "Pixel 3: one large core, batch 1, as printed: at full size, CPU(f), in seconds; at half size, CPU(h), in milliseconds.",
  ),
  draw=plots.tradeoff("table7", "s", labels=lambda r: r.row.name.partition(":")[0], metric="miou"),
)
