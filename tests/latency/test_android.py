"""An Android device, played by a stand-in adb: what is asked of it, what is read, and what is said when it is not there."""

import hashlib

import pytest
from stand_in import OFFLINE, READY, RECORDED, SECOND, UNAUTHORIZED, Adb, program

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency import android
from mnv3_jax.latency.android import AndroidDevice
from mnv3_jax.names import markdown


def device(tmp_path, adb, **given):
  return AndroidDevice(**{"benchmark_model": str(program(tmp_path / "benchmark_model")), "adb_program": str(adb.path), **given})


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    # median, mean, std, min, max, runs, the median is the mean
    ("tflite_benchmark_model.txt", (602.943, 602.943, 27.69, 568.228, 722.188, 50, True)),
    ("tflite_benchmark_model_percentiles.txt", (1239.807, 1240.27, 2.565, 1238.588, 1252.566, 50, False)),
    ("litert_benchmark_model.txt", (1.373, 1.37964, 0.014, 1.362, 1.452, 1000, False)),
    ("litert_benchmark_python.txt", (1.87, 1.99, 0.69, 1.76, 6.75, 50, False)),
  ],
)
def test_what_the_tools_print_is_read(name, expected):
  for newline in ("\n", "\r\n"):
    one = android.parse_output((RECORDED / name).read_text().replace("\n", newline), threads=1)
    found = one.median_ms, one.mean_ms, one.std_ms, one.min_ms, one.max_ms, one.runs, one.median_is_mean
    assert found == pytest.approx(expected)
    assert (one.p25_ms, one.p75_ms, one.spread, one.threads) == (None, None, None, 1)


def test_a_summary_alone_and_a_single_run_are_read_too():
  text = (RECORDED / "litert_benchmark_model.txt").read_text()
  summary = android.parse_output(text[text.index("========== BENCHMARK") :].split("Timings")[0], threads=1)
  assert (summary.median_ms, summary.runs, summary.std_ms, summary.median_is_mean) == (1.38, 1000, 0.01, True)
  single = android.parse_output(
    "count=1 curr=5000\ncount=1 curr=4200\nInference timings in us: Init: 1, Inference (avg): 4200\n", 1
  )
  assert (single.median_ms, single.runs, single.std_ms) == (4.2, 1, None)


def test_a_tool_that_dies_after_the_warm_up_has_no_latency():
  text = (RECORDED / "tflite_benchmark_model.txt").read_text().split("INFO: Running benchmark for at least 50")[0]
  with pytest.raises(FatalError, match="no latency in the output of benchmark_model: Segmentation fault"):
    android.parse_output(text + "\nSegmentation fault\n", threads=1)
  with pytest.raises(FatalError, match="it is empty"):
    android.parse_output("\n", threads=1)


def test_the_paper_s_protocol(tmp_path):
  adb, progress = Adb(tmp_path / "bin"), []
  files = {"a": b"first", "b": b"second"}
  found = device(tmp_path, adb).measure(files, runs=200, on_progress=lambda *counts: progress.append(counts))
  assert list(found) == ["a", "b"] and found["a"].median_ms == pytest.approx(1239.807)
  assert progress == [(200, 400), (400, 400)]
  calls = adb.calls()
  assert all(words[:2] == ["-s", "ebe3968d"] for words in calls[1:]) and calls[0] == ["devices", "-l"]
  folder = calls[2][3].removeprefix("mkdir -p ")
  assert folder.startswith("/data/local/tmp/mnv3_jax_")
  run = ["shell", (
    f"taskset f0 {folder}/benchmark_model --graph={folder}/m.tflite --num_threads=1 --warmup_runs=20 --num_runs=200 "
    "--use_xnnpack=true"
  )]  # fmt: skip
  said = [words[2:] for words in calls[2:]]
  assert [words[0] for words in said] == ["shell", "push", "shell", "push", "shell", "push", "shell", "shell"]
  assert said[4] == said[6] == run
  assert [words[2] for words in said if words[0] == "push"] == [f"{folder}/benchmark_model", *[f"{folder}/m.tflite"] * 2]
  assert [said[i][3] for i in (3, 5)] == [hashlib.sha256(content).hexdigest() for content in files.values()]
  assert said[2] == ["shell", f"chmod 755 {folder}/benchmark_model"]
  assert said[-1] == ["shell", f"rm -rf {folder}"]


def test_other_cores_threads_and_devices(tmp_path):
  adb = Adb(tmp_path / "bin", devices=(READY, SECOND, UNAUTHORIZED))
  other = device(tmp_path, adb, serial="emulator-5554", cores="0xC0", threads=2)
  other.measure({"a": b""}, runs=10, warmup=3)
  command = next(words for words in adb.calls() if words[-1].startswith("taskset"))
  assert command[1] == "emulator-5554" and command[3].startswith("taskset c0 ")
  assert "--num_threads=2 --warmup_runs=3 --num_runs=10 " in command[3]


def test_the_device_is_described(tmp_path):
  found = device(tmp_path, Adb(tmp_path / "bin"), threads=2).describe()
  tool = hashlib.sha256((tmp_path / "benchmark_model").read_bytes()).hexdigest()[:12]
  assert found == {
    "device": "Google Pixel 6 (oriole, Tensor), Android 14",
    "runtime": f"benchmark_model {tool}, XNNPACK",
    "threads": 2,
    "kind": "android",
    "cores": "f0",
  }


HOSTILE = "\x1b[2J\x1b]0;title\x07<script>alert(1)</script>|`rm`\u202egnp\x85\u2028\x00"


def test_words_of_a_device_are_data(tmp_path):
  """Wherever adb answers with escape sequences, HTML, ends of lines and marks of direction."""
  line = f"{HOSTILE}1 device product:x model:{HOSTILE} transport_id:1"
  adb = Adb(tmp_path / "bin", devices=(line.replace("\x85", "").replace("\u2028", ""), SECOND))
  adb.play["shell"]["getprop ro.product.manufacturer"] = (f"{HOSTILE}\r\r\nPixel\t6\nboard\nsoc\n14\n", 0)
  adb.play["shell"]["getprop ro.product.cpu.abilist"] = (f"{HOSTILE}\r\n", 0)
  adb.write()
  described = device(tmp_path, adb, serial="emulator-5554").describe()["device"]
  assert described.isprintable() and "\\x1b[2J" in described and described.endswith("(board, soc), Android 14")
  with pytest.raises(UsageError, match="2 devices are connected") as several:
    device(tmp_path, adb).describe()
  with pytest.raises(UsageError, match="the device runs") as other:
    device(tmp_path, adb, serial="emulator-5554").measure({"a": b""}, runs=10)
  del adb.play["shell"]["getprop ro.product.cpu.abilist"]
  adb.play["shell"]["taskset"] = (f"fails\r{HOSTILE}\n", 1)
  adb.write()
  with pytest.raises(FatalError, match="failed: ") as failed:
    device(tmp_path, adb, serial="emulator-5554").measure({"a": b""}, runs=10)
  said = [str(error.value) for error in (several, other, failed)]
  assert all(text.isprintable() and "\\x1b" in text for text in said), said
  # in a table of a page it is no HTML, no cell and no link
  assert "<script" not in markdown(described) and "\\|" in markdown(described)


@pytest.mark.parametrize(
  ("devices", "serial", "sentence"),
  [
    ((), None, "no Android device is connected; connect one by USB, switch on USB debugging"),
    ((), "ebe3968d", "no device 'ebe3968d' is connected; connect one by USB"),
    ((READY,), "ebe3968", "no device 'ebe3968' is connected; did you mean 'ebe3968d'?"),
    ((READY, SECOND), None, "2 devices are connected: ebe3968d (CPH2641), emulator-5554 (sdk gphone64 arm64); choose one"),
    ((UNAUTHORIZED,), None, "device 'R58M123ABC' is not ready (unauthorized); unlock it and accept this computer"),
    ((READY, OFFLINE), "emulator-5556", "device 'emulator-5556' is not ready (offline); plug it in again"),
    (("0123 no permissions (missing udev rules?); see [http://developer.android.com] usb:1-1",), None, "add a udev rule"),
    (("* daemon not running; starting now at tcp:5037", "* daemon started successfully"), None, "no Android device"),
  ],
)
def test_a_device_that_is_not_there(devices, serial, sentence, tmp_path):
  adb = Adb(tmp_path / "bin", devices=devices)
  with pytest.raises(UsageError) as error:
    device(tmp_path, adb, serial=serial).measure({"a": b""}, runs=10)
  assert sentence in str(error.value)
  # nothing but the question was asked
  assert adb.calls() == [["devices", "-l"]]


def test_without_adb(tmp_path):
  with pytest.raises(UsageError, match="no program 'adb_of_nobody'; the Android platform-tools have it: https://developer"):
    AndroidDevice(adb_program="adb_of_nobody").describe()


def test_without_a_program_for_the_device(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  adb, files = Adb(tmp_path / "bin"), {"a": b""}
  with pytest.raises(
    UsageError, match=r"no benchmark_model in the current directory; .* benchmark_model=PATH.* https://storage.googleapis"
  ):
    AndroidDevice(adb_program=str(adb.path)).measure(files, 10)
  with pytest.raises(UsageError, match=r"no file benchmark_model='nowhere'; .* https://storage.googleapis"):
    device(tmp_path, adb, benchmark_model="nowhere").measure(files, 10)
  (tmp_path / "page").write_text("<html>not found</html>")
  with pytest.raises(UsageError, match="'page' is not a program for Android"):
    device(tmp_path, adb, benchmark_model="page").measure(files, 10)
  with pytest.raises(UsageError, match="'x86' is for x86_64, the device runs arm64-v8a;"):
    device(tmp_path, adb, benchmark_model=str(program(tmp_path / "x86", machine=62).name)).measure(files, 10)
  program(tmp_path / "android_aarch64_benchmark_model")
  # beside the caller under the name of the download
  assert AndroidDevice(adb_program=str(adb.path)).measure(files, 10)["a"].runs == 50


@pytest.mark.parametrize("mask", ["", "fg", "0", "0x", "-1", "f0; reboot", "f" * 17])
def test_a_mask_that_is_none(mask):
  with pytest.raises(UsageError, match=r"invalid cores=.* a mask of cores in hexadecimal, such as f0"):
    AndroidDevice(cores=mask)


def test_a_tool_that_fails_leaves_nothing_behind(tmp_path):
  adb = Adb(tmp_path / "bin")
  adb.play["shell"]["taskset"] = ("taskset: failed to set 4242's affinity: Invalid argument\n", 1)
  adb.write()
  with pytest.raises(FatalError, match="failed: taskset: failed to set 4242's affinity: Invalid argument"):
    device(tmp_path, adb).measure({"a": b"", "b": b""}, runs=10)
  assert adb.calls()[-1][-1].startswith("rm -rf /data/local/tmp/mnv3_jax_")
  assert len([words for words in adb.calls() if "push" in words]) == 2


def test_a_phone_over_wifi_is_seen():
  said = """* daemon started successfully
List of devices attached
adb-939AX05XBZ-vWgJpq._adb-tls-connect._tcp device product:panther model:Pixel_7 device:panther transport_id:3
adb: unknown line
"""
  assert android.parse_devices(said) == {"adb-939AX05XBZ-vWgJpq._adb-tls-connect._tcp": ("device", "Pixel 7")}
