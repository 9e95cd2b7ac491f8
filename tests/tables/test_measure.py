"""Latencies of tables: which files, how often, on this machine and on a phone."""

import json

import pytest
from conftest import ended
from stand_in import RECORDED, Adb, program

from mnv3_jax.latency.android import parse_output
from mnv3_jax.tables import measure, registry, results
from mnv3_jax.tables.columns import METRICS
from mnv3_jax.tables.scales import get_scale

TABLE = """from mnv3_jax.tables.table import Row, Table
TABLE = Table(
  title="Mine",
  source="me",
  columns=("params", "madds", "madds_half", {figure!r}, "ms", "ms_half"),
  rows=(Row(name="thin", model="mobilenetv3_small", run="thin", fields={{"width": 0.35, **{fields!r}}}),),
)
"""


def own(folder, figure="top1", **fields):
  """A file with a table of one small network."""
  file = folder / "mine.py"
  file.write_text(TABLE.format(figure=figure, fields=fields))
  return file


def test_tables_7_and_8_share_the_files_of_what_they_share(tmp_path):
  found = measure.latency_files([registry.load_table("table7"), registry.load_table("table8")], tmp_path)
  # eleven networks, and two more of output stride 32
  assert len(found) == 26 and {file.name for file in found} == {"none.tflite", "none_half.tflite"}
  row, latency = found[tmp_path / "latency" / "mobilenetv3_large-rf2-lr_aspp-128" / "none_half.tflite"]
  assert latency.half and row.half_size().resolution == (512, 1024)


def test_h_swish_in_parts_is_a_file_of_its_own(tmp_path):
  found = measure.latency_files([registry.load_table("table5")], tmp_path)
  assert sorted((file.name, latency.fused) for file, (_, latency) in found.items()) == [
    *4 * [("none.tflite", True)],
    *4 * [("none_parts.tflite", False)],
  ]


def test_large_files_are_timed_a_few_times():
  rows = registry.load_table("table7").rows
  plans = [(measure.timing_settings(row.architecture()), measure.timing_settings(row.half_size())) for row in rows]
  # half of V3-Small and of the two narrow V2 are small
  assert [full for full, _ in plans] == 11 * [measure.SLOW]
  assert [half for _, half in plans] == [*8 * [measure.SLOW], *3 * [measure.QUICK]]
  assert measure.timing_settings(registry.load_table("table3").rows[0].architecture()) == measure.QUICK


def timed(table, runs, *words):
  status, out, err = ended("table", table, "--scale", "mini", "--runs", runs, "--measure", *words)
  assert status == 0, err
  return out, err


def kept(runs, half=False):
  return json.loads((runs / "latency" / "thin" / f"none{'_half' if half else ''}.tflite.json").read_text())


@pytest.mark.slow
def test_a_table_is_measured_at_full_and_at_half_size_once(tmp_path):
  table, runs = own(tmp_path, resolution=64), tmp_path / "runs"
  out, err = timed(table, runs)
  assert "2 files timed on this machine" in err and "not measured" not in out and "MAdds, half size" in out
  assert [kept(runs, half)["resolution"] for half in (False, True)] == [64, 32]
  for half in (False, True):
    (latency,) = kept(runs, half)["latencies"]
    assert (latency["runs"], latency["loads"], latency["threads"], latency["kind"]) == (160, 4, 1, "host")
  assert "0 files timed on this machine" in timed(table, runs)[1]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_detector_is_timed_without_the_suppression_of_boxes(tmp_path):
  table, runs = own(tmp_path, "ap", head="ssdlite", resolution=64), tmp_path / "runs"
  assert "2 files timed on this machine" in timed(table, runs)[1]
  assert [output["name"] for output in kept(runs)["note"]["output"]] == ["codes", "scores"]
  assert not any("TFLite" in name for name in kept(runs)["ops"])


@pytest.mark.slow
def test_a_table_is_measured_on_a_phone(tmp_path, monkeypatch):
  """By a stand-in adb; what this machine has measured stays beside it."""
  adb, tool = Adb(tmp_path / "adb"), program(tmp_path / "benchmark_model")
  monkeypatch.setenv("PATH", adb.environment["PATH"])
  table, runs = own(tmp_path, resolution=64), tmp_path / "runs"
  out, err = timed(table, runs, "--benchmark_model", tool, "--cores", "80", "--adb")
  median = parse_output((RECORDED / "tflite_benchmark_model_percentiles.txt").read_text(), 1).median_ms
  (latency,) = kept(runs)["latencies"]
  assert (latency["kind"], latency["cores"], latency["median_ms"]) == ("android", "80", pytest.approx(median))
  assert "2 files timed on Google Pixel 6 (oriole, Tensor), Android 14" in err and "ms: Google Pixel 6" in out
  assert any("--num_threads=1 --warmup_runs=10 --num_runs=160" in " ".join(call) for call in adb.calls())
  timed(table, runs)
  assert [one["kind"] for one in kept(runs)["latencies"]] == ["android", "host"]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_segmenter_is_measured(tmp_path):
  fields = {"head": "lr_aspp", "output_stride": 16, "resolution": 64, "resolution_width": 128, "num_classes": 19}
  table, runs = own(tmp_path, "miou", **fields), tmp_path / "runs"
  out, err = timed(table, runs)
  assert "2 files timed" in err and "64x128 px" in out
  assert [kept(runs, half)["resolution"] for half in (False, True)] == [[64, 128], [32, 64]]
  loaded = registry.load_table(table)
  (found,) = results.collect(loaded, runs, get_scale("mini", METRICS["miou"]))
  assert found.ms > 0 and found.ms_half > 0
