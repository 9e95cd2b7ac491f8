"""What is read from run directories, and how it is shown: figures, spreads, marks, and commands of what was not run."""

import csv
import io
import json
import statistics

import pytest

from mnv3_jax.architectures import cost
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError
from mnv3_jax.export import record
from mnv3_jax.tables import cells, columns, registry, render, results, scales, table as tables, trials

TOP1, MIOU, AP = (columns.METRICS[name] for name in ("top1", "miou", "ap"))
MINI, IMAGENET, SCENES, CITYSCAPES = (
  *(scales.get_scale(name, TOP1) for name in ("mini", "imagenet")),
  *(scales.get_scale(name, MIOU) for name in ("mini", "cityscapes")),
)
TABLE, SEGMENTED, DETECTED = (registry.load_table(name) for name in ("table5", "table7", "table6"))


def finished(runs, row, seed, top1, scale=MINI, classes=10, **changes):
  """A run directory as training leaves it, but for what tables do not read."""
  a = scale.architecture(row, num_classes=classes)
  where = trials.run_directory(runs, scale, row, seed)
  where.mkdir(parents=True)
  test = {"raw": {"top1": 0.1, "top5": 0.2}, "ema": {"top1": top1, "top5": 0.99}}
  result = {"model": a.name, "params": cost.params(a), "madds": cost.madds(a), "epochs": 12.0, "seconds": 360.0, "seed": seed}
  (where / "result.json").write_text(json.dumps({**result, "metrics": {"test": test}, **changes}))
  return where


def segmented(runs, row, seed, miou, scale=SCENES, **changes):
  """The same of a segmenter's run."""
  test = {"raw": {"miou": 0.1, "pixel_accuracy": 0.5}, "ema": {"miou": miou, "pixel_accuracy": 0.9, "iou/Bag": 0.3}}
  return finished(runs, row, seed, 0, scale, scale.num_classes, metrics={"test": test}, **changes)


def timed(runs, row, ms, device="a machine", column="ms"):
  file = results.latency_file(runs, row, column)
  device = {"device": device, "runtime": "LiteRT", "threads": 1, "kind": "host"}
  record.write(file, record.with_latency(record.read(file), device, {"median_ms": ms}))


def shown(runs, table=TABLE, scale=MINI, **more):
  found = results.collect(table, runs, scale, **more)
  return found, cells.lay_out(table, found, scale, runs)


def cell(grid, row, head):
  return next(line for line in grid.rows if line[0].text == row)[grid.header.index(head)]


def test_mean_and_spread_over_seeds_of_averaged_weights(tmp_path):
  for seed, top1 in enumerate((0.88, 0.89, 0.87)):
    finished(tmp_path, TABLE.row("V3-Large 1.0"), seed, top1)
  found, grid = shown(tmp_path)
  assert found[0].values == pytest.approx((88, 89, 87)) and found[0].missing == ()
  assert found[0].std == pytest.approx(statistics.stdev([88, 89, 87]))
  assert cell(grid, "V3-Large 1.0", "top-1, % (mini)").text == "88.00 ± 1.00"
  assert cell(grid, "V3-Large 1.0", "paper, ImageNet").text == "75.2"
  assert cell(grid, "ReLU", "paper, ImageNet").text == "74.5 (-0.7)"


def test_differences_are_to_the_reference(tmp_path):
  finished(tmp_path, TABLE.row("V3-Large 1.0"), 0, 0.88)
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  timed(tmp_path, TABLE.row("V3-Large 1.0"), 6.0)
  timed(tmp_path, TABLE.row("ReLU"), 5.1)
  _, grid = shown(tmp_path, seeds=1)
  assert cell(grid, "ReLU", "top-1, % (mini)").text == "87.00 (-1.00)"
  assert cell(grid, "ReLU", "ms").text == "5.1 (×0.85)"
  assert cell(grid, "ReLU", "Pixel 1").text == "50.5 (×0.98)"
  assert any("single runs" in note for note in grid.notes)


def test_what_was_not_run_says_so_with_its_command(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  _, grid = shown(tmp_path)
  never, some = cell(grid, "h-swish@16", "top-1, % (mini)"), cell(grid, "ReLU", "top-1, % (mini)")
  assert never.text == "not run" and "h_swish_from=16/seed_0" in never.command and "--config.train.epochs=12" in never.command
  assert some.text == "87.00, 1 seed of 3" and "seed_1" in some.command and "--config.train.seed=1" in some.command
  text = render.as_text(grid)
  assert never.command in text and some.command in text
  assert never.command in render.as_markdown(grid)
  assert cell(grid, "ReLU", "ms").text == "not measured"


def test_imagenet_needs_its_photos(tmp_path):
  found = results.collect(TABLE, tmp_path, IMAGENET)
  without = cells.lay_out(TABLE, found, IMAGENET, tmp_path)
  given = cells.lay_out(TABLE, found, IMAGENET, tmp_path, ("--config.data.dir=/data",))
  assert "--config.data.dir=IMAGENET" in without.rows[0][3].command
  assert "IMAGENET" not in given.rows[0][3].command and "--config.data.dir=/data" in given.rows[0][3].command


def test_every_row_has_exact_sizes_without_any_run(tmp_path):
  _, grid = shown(tmp_path / "nowhere", registry.load_table("table3"), IMAGENET)
  assert cell(grid, "V3-Large 1.0", "parameters").text == "5,483,032"
  assert (
    cell(grid, "ProxylessNAS", "parameters").text == "paper only"
    and cell(grid, "ProxylessNAS", "paper, ImageNet").text == "74.6"
  )
  assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
  "column, ours, printed, marked",
  [
    ("params_M", 5_483_032, "5.4", False),  # cut off
    ("params_M", 5_483_032, "5.5", False),  # rounded
    ("params_M", 5_483_032, "5.6", True),
    ("params_M", 3_504_872, "3.4", True),
    ("madds_M", 216_589_760, "217", False),
    ("madds_M", 216_589_760, "219", True),
    ("madds_M", 355_221_920, "356", False),
    ("top1", 75.69, "75.2", False),
    ("top1", 75.71, "75.2", True),
    ("madds_B", 9_740_000_000, "9.74", False),
    ("madds_B", 9_650_000_000, "9.74", False),  # within 1 %
    ("madds_B", 9_367_758_976, "9.74", True),
    ("miou", 73.3, "72.36", False),
    ("miou", 71.3, "72.36", True),
    # of the test set, which ours never is
    ("miou_test", 60.0, "72.6", False),
  ],
)
def test_marks(column, ours, printed, marked):
  assert bool(columns.difference(column, ours, printed)) == marked


def test_a_mini_accuracy_is_not_compared_with_imagenets(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.70, scale=IMAGENET, classes=1000)
  assert cell(shown(tmp_path)[1], "ReLU", "top-1, % (mini)").mark == ""
  _, grid = shown(tmp_path, scale=IMAGENET)
  assert cell(grid, "ReLU", "top-1, % (imagenet)").mark == "top-1 is -4.50 points from the paper's 74.5"
  assert "[1] top-1 is -4.50" in render.as_text(grid)


def test_a_directory_with_another_networks_run_is_refused(tmp_path):
  a = MINI.architecture(tables.Row(name="", model="mobilenetv3_small"))
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87, params=cost.params(a), madds=cost.madds(a))
  with pytest.raises(UsageError, match="of another network than 'ReLU'"):
    shown(tmp_path)


@pytest.mark.parametrize(
  "changes, sentence",
  [
    ({"model": {"h_swish_from": 16}}, "of another network than 'ReLU'"),  # of the very same size
    ({"data": {"fake": True}}, "one random batch"),
    ({"model": {"h_swish_from": "many"}}, r"config\.json' is damaged"),
  ],
)
def test_a_runs_config_says_what_it_is_of(tmp_path, changes, sentence):
  where = finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  config = read_config("configs/fashion_mnist.py:mobilenetv3_large", ["--config.model.h_swish_from=0"]).to_dict()
  (where / "config.json").write_text(json.dumps(config))
  assert shown(tmp_path)[0][1].values == pytest.approx((87,))
  for section, fields in changes.items():
    config[section] |= fields
  (where / "config.json").write_text(json.dumps(config))
  with pytest.raises(UsageError, match=sentence):
    shown(tmp_path)


def test_a_run_of_another_seed_than_its_directory_says_is_refused(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 7, 0.87).rename(tmp_path / "mini_poses" / TABLE.row("ReLU").key / "seed_0")
  with pytest.raises(UsageError, match="is of seed 7"):
    shown(tmp_path)


def test_seeds_that_were_not_asked_for_do_not_count(tmp_path):
  for seed, top1 in ((0, 0.88), (2, 0.86)):
    finished(tmp_path, TABLE.row("ReLU"), seed, top1)
  assert shown(tmp_path)[0][1].missing == (1,)
  assert cell(shown(tmp_path, seeds=1)[1], "ReLU", "top-1, % (mini)").text == "88.00"
  assert cell(shown(tmp_path, seeds=2)[1], "ReLU", "top-1, % (mini)").text == "88.00, 1 seed of 2"


def test_rows_of_other_seeds_have_no_difference(tmp_path):
  finished(tmp_path, TABLE.row("V3-Large 1.0"), 0, 0.88)
  finished(tmp_path, TABLE.row("ReLU"), 1, 0.87)
  assert "(" not in cell(shown(tmp_path)[1], "ReLU", "top-1, % (mini)").text


@pytest.mark.parametrize(
  "content",
  [
    *("{", "[]", "{}", '{"model": "mobilenetv3_large"}', {"epochs": None}, {"params": "many"}, {"metrics": 3}),
    *({"metrics": {"test": test}} for test in ({"ema": 3}, {"ema": {"top1": None}}, {"ema": {"top1": float("nan")}}, {})),
  ],
)
def test_a_damaged_result_is_named(tmp_path, content):
  where = finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  if isinstance(content, dict):
    content = json.dumps(json.loads((where / "result.json").read_text()) | content)
  (where / "result.json").write_text(content)
  with pytest.raises(UsageError, match=r"result\.json' is damaged"):
    shown(tmp_path)


def test_an_8_bit_row_has_the_accuracy_of_its_file(tmp_path):
  table = registry.load_table("table4")
  row = table.rows[0]
  where = finished(tmp_path, row, 0, 0.88)
  _, grid = shown(tmp_path, table, seeds=1)
  assert cell(grid, row.name, "top-1, % (mini)").text == "not run"
  (where / "export").mkdir()
  (where / "export" / "int8.tflite.json").write_text(json.dumps({"accuracy": {"file": 0.875, "flax": 0.88}}))
  _, grid = shown(tmp_path, table, seeds=1)
  assert cell(grid, row.name, "top-1, % (mini)").text == "87.50"


def test_latencies_are_of_one_device(tmp_path):
  """Of that which most rows were measured on: milliseconds of two machines in a column would be read as one."""
  for row, device in zip(TABLE.rows, ("laptop", "phone", "phone", "phone"), strict=True):
    timed(tmp_path, row, 5.0, device)
  found, grid = shown(tmp_path)
  assert [r.ms for r in found] == [None, 5.0, 5.0, 5.0] and found[1].device == "phone, LiteRT"
  assert any(note.startswith("ms: phone, LiteRT, one thread") for note in grid.notes)


def test_latencies_of_more_threads_or_another_runtime_are_others(tmp_path):
  row = TABLE.row("ReLU")
  timed(tmp_path, row, 5.0)
  file = results.latency_file(tmp_path, row)
  for change in ({"threads": 8}, {"runtime": "another"}):
    place = {"device": "a machine", "runtime": "LiteRT", "threads": 1, "kind": "host"} | change
    record.write(file, record.with_latency(record.read(file), place, {"median_ms": 1.5}))
  for other in TABLE.rows[2:]:
    timed(tmp_path, other, 6.0)
  assert shown(tmp_path)[0][1].ms == 5.0


def test_a_damaged_latency_is_named(tmp_path):
  timed(tmp_path, TABLE.row("ReLU"), "fast")
  with pytest.raises(UsageError, match="median_ms = 'fast'"):
    shown(tmp_path)


def test_runs_of_different_epochs_are_said_to_be(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  finished(tmp_path, TABLE.row("h-swish@16"), 0, 0.87, epochs=2.0)
  assert any("different epochs cannot be compared" in note for note in shown(tmp_path)[1].notes)


def test_csv_has_timms_columns(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.875)
  timed(tmp_path, TABLE.row("ReLU"), 5.0)
  lines = list(csv.DictReader(io.StringIO(render.as_csv(TABLE, results.collect(TABLE, tmp_path, MINI), MINI))))
  assert list(lines[0])[:9] == [
    *("model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size", "crop_pct", "interpolation")
  ]
  relu = lines[1]
  assert (relu["model"], relu["top1"], relu["top1_err"], relu["top5"]) == (
    *("mobilenetv3_large-h_swish_from=0", "87.500", "12.500", "99.000"),
  )
  assert (relu["param_count"], relu["gmacs"], relu["img_size"], relu["latency_ms"]) == ("4.215", "0.0071", "32", "5.0000")
  assert relu["paper_top1"] == "74.5" and lines[0]["top1"] == ""


def test_hours_are_of_the_same_row_or_by_multiply_adds(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87, seconds=720.0)
  known = trials.finished_durations(tmp_path, MINI)
  a = MINI.architecture(TABLE.row("ReLU"), num_classes=10)
  assert trials.expected_hours(known, a, TABLE.row("ReLU").key, 12) == pytest.approx(0.2)
  assert trials.expected_hours(known, a, TABLE.row("ReLU").key, 24) == pytest.approx(0.4)
  small = MINI.architecture(tables.Row(name="", model="mobilenetv3_small"), num_classes=10)
  ratio = cost.madds(small) / cost.madds(a)
  assert trials.expected_hours(known, small, "mobilenetv3_small", 12) == pytest.approx(0.2 * ratio)
  assert trials.expected_hours({}, a, "", 12) is None and trials.expected_hours(known, a, "", 0) is None


def test_a_segmentation_row_has_miou_beside_the_papers(tmp_path):
  row = SEGMENTED.row("8: V3 RF2, LR-ASPP 128")
  for seed, miou in enumerate((0.61, 0.63)):
    segmented(tmp_path, row, seed, miou)
  found, grid = shown(tmp_path, SEGMENTED, SCENES)
  assert found[7].values == pytest.approx((61, 63)) and found[7].others == {"pixel_accuracy": pytest.approx((90, 90))}
  assert cell(grid, row.name, "mIoU, % (mini)").text == "62.00 ± 1.41"
  assert cell(grid, row.name, "mIoU, % (mini)").mark == "" and cell(grid, row.name, "paper, Cityscapes val").text == "72.36"
  assert cell(grid, row.name, "paper, B").text == "9.74" and cell(grid, row.name, "MAdds").text == "9,367,758,976"
  assert "the paper prints 9.74 B (-3.8%)" in cell(grid, row.name, "MAdds").mark
  assert cell(grid, SEGMENTED.rows[0].name, "mIoU, % (mini)").text == "not run"
  assert any("all pools are global here" in note for note in grid.notes)
  assert any("19 classes, at 1024x2048 px; half size is 512x1024 px" in note for note in grid.notes)


def test_miou_is_marked_on_cityscapes_alone(tmp_path):
  row = SEGMENTED.row("8: V3 RF2, LR-ASPP 128")
  segmented(tmp_path, row, 0, 0.70, CITYSCAPES)
  _, grid = shown(tmp_path, SEGMENTED, CITYSCAPES)
  assert cell(grid, row.name, "mIoU, % (cityscapes)").mark == "mIoU is -2.36 points from the paper's 72.36"
  assert any("mIoU within 1 point, on Cityscapes only" in note for note in grid.notes)


def test_table_8_shares_the_runs_of_table_7_and_has_the_papers_test_set_beside(tmp_path):
  table8 = registry.load_table("table8")
  segmented(tmp_path, SEGMENTED.row("8: V3 RF2, LR-ASPP 128"), 0, 0.60, CITYSCAPES)
  _, grid = shown(tmp_path, table8, CITYSCAPES)
  ours = cell(grid, "V3, output stride 16", "mIoU, % (cityscapes)")
  assert (ours.text, ours.mark) == ("60.00", "")
  assert cell(grid, "V3, output stride 16", "paper, Cityscapes test").text == "72.6"
  assert cell(grid, "V3, output stride 32", "mIoU, % (cityscapes)").text == "not run"
  assert cell(grid, "V3-Small, output stride 32", "MAdds, half size").text == "481,410,816"
  other = next(line for line in grid.rows if line[0].text == "ESPNetv2")
  assert [c.text for c in other].count("paper only") == 5 and "2.7" in [c.text for c in other]


def detected(runs, row, seed, ap, scale):
  """The same of a detector's run."""
  test = {"raw": {"ap": 0.01}, "ema": {"ap": ap, "ap50": ap + 0.2, "ap/Bag": 0.3}}
  return finished(runs, row, seed, 0, scale, scale.num_classes, metrics={"test": test})


def test_a_detector_has_the_papers_counts_and_its_own_ap(tmp_path):
  mini, coco = (scales.get_scale(name, AP) for name in ("mini", "coco"))
  small, large = DETECTED.row("V3-Small (dagger)"), DETECTED.row("V3")
  for seed, ap in enumerate((0.4, 0.42)):
    detected(tmp_path, small, seed, ap, mini)
  detected(tmp_path, large, 0, 0.21, coco)
  found, grid = shown(tmp_path, DETECTED, mini)
  assert cell(grid, small.name, "AP, % (mini)").text == "41.00 ± 1.41" and found[-1].others["ap50"] == pytest.approx((60, 62))
  assert cell(grid, small.name, "parameters") == cells.Cell("1,765,974")
  assert cell(grid, small.name, "paper, a phone").text == "43 (×0.31)"
  assert any("finds boxes; it does not show which of two rows is better on COCO" in note for note in grid.notes)
  assert not any("counted from the networks, with" in note for note in grid.notes)
  _, grid = shown(tmp_path, DETECTED, coco)
  assert cell(grid, "V3", "AP, % (coco)").mark == "AP is -1.00 points from the paper's 22.0"
  assert cell(grid, "V3", "paper, COCO test").text == "22.0" and cell(grid, "V2", "AP, % (coco)").text == "not run"
  # a run of the row without the dagger
  detected(tmp_path, large, 0, 0.2, mini).rename(trials.run_directory(tmp_path, mini, small, 2))
  with pytest.raises(UsageError, match="is of "):
    shown(tmp_path, DETECTED, mini)


def test_latencies_at_full_and_at_half_size(tmp_path):
  row = SEGMENTED.row("11: V3-Small RF2, LR-ASPP 128")
  timed(tmp_path, row, 312.0)
  timed(tmp_path, row, 78.0, column="ms_half")
  found, grid = shown(tmp_path, SEGMENTED, SCENES)
  assert (found[10].ms, found[10].ms_half, found[10].ms_parts) == (312.0, 78.0, None)
  assert cell(grid, row.name, "ms").text == "312" and cell(grid, row.name, "ms, half size").text == "78"
  assert cell(grid, row.name, "Pixel 3, s").text == "1.21" and cell(grid, row.name, "Pixel 3, half size").text == "327"
  assert any(note.startswith("ms: a machine, LiteRT, one thread") and "1024x2048 px" in note for note in grid.notes)


def test_csv_of_segmentation_has_columns_of_its_own(tmp_path):
  row = SEGMENTED.row("8: V3 RF2, LR-ASPP 128")
  segmented(tmp_path, row, 0, 0.60)
  timed(tmp_path, row, 312.0)
  timed(tmp_path, row, 78.0, column="ms_half")
  found = results.collect(SEGMENTED, tmp_path, SCENES)
  lines = list(csv.DictReader(io.StringIO(render.as_csv(SEGMENTED, found, SCENES))))
  assert list(lines[0])[:4] == ["model", "miou", "pixel_accuracy", "param_count"] and "top1" not in lines[0]
  eighth = lines[7]
  assert (eighth["miou"], eighth["pixel_accuracy"], eighth["img_size"]) == ("60.000", "90.000", "80x112")
  assert (eighth["latency_ms"], eighth["latency_half_ms"], eighth["gmacs"]) == ("312.0000", "78.0000", "0.0405")
  assert (eighth["paper_miou"], eighth["paper_gmacs"], eighth["paper_latency_ms"]) == ("72.36", "9.74", "2470")
  assert (eighth["paper_latency_half_ms"], eighth["paper_miou_test"], lines[0]["miou"]) == ("657", "", "")
  paper = list(csv.DictReader(io.StringIO(render.as_csv(SEGMENTED, found, CITYSCAPES))))[7]
  assert (paper["img_size"], paper["gmacs"], paper["gmacs_half"]) == ("1024x2048", "9.3678", "2.3424")


def test_a_classifiers_run_is_no_segmenters(tmp_path):
  row = SEGMENTED.row("8: V3 RF2, LR-ASPP 128")
  finished(tmp_path, row, 0, 0.9, SCENES, 11)
  with pytest.raises(UsageError, match=r"result\.json' is damaged: it has no test metrics"):
    shown(tmp_path, SEGMENTED, SCENES)


def test_a_run_of_another_output_stride_is_refused(tmp_path):
  """The counts of parameters are the same: the config says which network it is."""
  table8 = registry.load_table("table8")
  where = segmented(tmp_path, table8.row("V3, output stride 16"), 0, 0.6)
  (words, _), *_ = trials.run_commands(tmp_path, SCENES, [table8.row("V3, output stride 32")], 0)
  config = read_config(words[3], [word for word in words if word.startswith("--config.")])
  (where / "config.json").write_text(json.dumps(config.to_dict()))
  with pytest.raises(UsageError, match="of another network than 'V3, output stride 16'"):
    shown(tmp_path, table8, SCENES)


def test_hours_of_scenes_are_not_of_photos(tmp_path):
  finished(tmp_path, TABLE.row("ReLU"), 0, 0.87)
  assert trials.finished_durations(tmp_path, MINI) and "mobilenetv3_large-h_swish_from=0" not in trials.finished_durations(
    tmp_path, SCENES
  )
