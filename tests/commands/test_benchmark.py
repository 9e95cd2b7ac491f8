"""mnv3 benchmark: several files, profiles, a device, and what is refused."""

import json
import pathlib
import re

import numpy as np
import pytest
from conftest import mnv3, tiny_architecture
from PIL import Image
from stand_in import READY, SECOND, Adb, program
from test_commands import timed

from mnv3_jax.errors import UsageError
from mnv3_jax.export import tflite as exporting
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.latency.benchmark import BenchmarkResult, BenchmarkResults, benchmark
from mnv3_jax.latency.timing import LatencyStats

LITERT = "litert_benchmark_model.txt"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Paths of the tiny network at two resolutions, the big one first."""
  folder = tmp_path_factory.mktemp("files")
  for name, resolution in (("big", 96), ("little", 16)):
    a = tiny_architecture(resolution=resolution)
    exporting.write_tflite(a, *random_weights(a)[:1], folder / f"{name}.tflite", random_weights(a)[1])
  return folder / "big.tflite", folder / "little.tflite"


def test_several_files(files):
  big, little = files
  found = json.loads(timed("benchmark", big, little, big, "--runs", 40, "--json"))
  assert [one["file"] for one in found] == [str(big), str(little), f"{big} (2)"]
  for one in found:
    assert {"median_ms", "p25_ms", "p75_ms", "runs", "threads", "ops", "partitions", "ratio"} < one.keys()
    assert (one["runs"], one["threads"], one["partitions"], one["ops"]["FULLY_CONNECTED"]) == (40, 1, 1, 2)
    assert one["ratio"]["p25"] <= one["ratio"]["median"] <= one["ratio"]["p75"]
  first, second, again = (one["ratio"] for one in found)
  assert first == {"median": 1, "p25": 1, "p75": 1, "of_medians": 1}
  # of networks of very different sizes: no other process makes so much of a difference
  assert second["median"] < 0.7 and 0.2 < again["median"] < 5
  assert second["of_medians"] == pytest.approx(found[1]["median_ms"] / found[0]["median_ms"])


@pytest.mark.slow
def test_the_table(files):
  big, little = files
  text = timed("benchmark", big, little, "--runs", 20, "--compare")
  device, empty, head, *rows, runs, sentence = text.splitlines()
  assert "ai-edge-litert 2." in device and empty == ""
  assert head.split() == ["file", "MB", "median", "ms", "quartiles", "partitions", "ratio", "quartiles"]
  assert [row.split()[0] for row in rows] == [str(big), str(little)] and runs == "20 runs, 1 thread"
  assert float(rows[0].split()[1]) == round(big.stat().st_size / 1e6, 2)
  ratio = rows[1].split()[7]
  assert sentence.startswith(f"{little} takes {ratio} times as long as {big}, quartiles ")
  assert "times as long" not in timed("benchmark", big, little, "--runs", 2)


@pytest.mark.slow
def test_a_noisy_machine_is_called_one(files, neighbour):
  done = mnv3("benchmark", files[0], "--runs", 1000, "--json")
  assert done.returncode == 0 and json.loads(done.stdout)["runs"] == 1000
  assert re.fullmatch(r"mnv3: this machine is noisy: other processes had the processor for \d+% of the time; .*\n", done.stderr)


def test_a_spread_is_called_noise():
  def results(*stats, preempted=0.01):
    named = zip("ab", stats, strict=True)
    return BenchmarkResults([BenchmarkResult(name, s, 1000, {}) for name, s in named], {"kind": "host"}, preempted)

  quiet = LatencyStats(median_ms=1.0, p25_ms=0.97, p75_ms=1.05, runs=9, threads=1)
  wide = LatencyStats(median_ms=1.0, p25_ms=0.97, p75_ms=1.25, runs=9, threads=1)
  none = LatencyStats(median_ms=1.0, p25_ms=None, p75_ms=None, runs=9, threads=1)
  assert results(quiet, none).noise is None
  assert results(quiet, wide).noise == "the quartiles of b are 28% of its median apart, more than 10%"
  assert results(quiet, none, preempted=0.2).noise == "other processes had the processor for 20% of the time"


@pytest.mark.slow
def test_the_library_function(files, tmp_path):
  copies = [tmp_path / file.name for file in files]
  for file, copy in zip(files, copies, strict=True):
    copy.write_bytes(file.read_bytes())
  progress = []
  results = benchmark([*copies, copies[0]], runs=10, profile=True, keep=True, on_progress=lambda *n: progress.append(n))
  big, little, again = results.values()
  assert list(results) == [str(copies[0]), str(copies[1]), f"{copies[0]} (2)"] and results[copies[1]] is little
  assert little.median_ms < big.median_ms and big.p25_ms <= big.median_ms <= big.p75_ms and little.ratio.median < 1
  assert big.partitions == 1 and big.profile.matched == sum(big.ops.values()) and again.size_bytes == copies[0].stat().st_size
  assert progress[-1] == (60, 60) and [done for done, _ in progress] == sorted({done for done, _ in progress})
  assert (
    f"{copies[1]} takes 0." in results.comparison()[0] and "partitions" in repr(results) and "times the first" in repr(little)
  )
  assert json.loads((tmp_path / "little.tflite.json").read_text())["latencies"][0]["ratio"]["to"] == "big.tflite"
  single = benchmark(copies[1], runs=5)
  assert len(single) == 1 and single[copies[1]].ratio is None and "XNNPACK partitions: 1" in str(single)


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    ({"files": []}, "invalid files=[]; expected one .tflite file or more"),
    ({"runs": 0}, "invalid runs=0; expected a number above 0"),
    ({"threads": 0}, "invalid threads=0; expected 1 to 256"),
    ({"profile": True, "adb": True}, "invalid profile=True with adb; expected profile=False"),
    ({"cores": "f0"}, "invalid cores='f0' without adb; expected None"),
    ({"benchmark_model": "x"}, "invalid benchmark_model='x' without adb; expected None"),
    ({"cores": "four", "adb": True}, "invalid cores='four'; expected a mask of cores in hexadecimal"),
  ],
)
def test_errors_of_the_library_name_python_arguments(arguments, sentence, files):
  with pytest.raises(UsageError) as error:
    benchmark(**{"files": files, **arguments})
  assert sentence in str(error.value)


@pytest.mark.slow
def test_a_profile_and_its_chart(files, tmp_path):
  text = timed("benchmark", files[0], "--runs", 20, "--profile", "--out", tmp_path / "new" / "chart.png")
  operators, blocks = re.findall(r"\n((?:operator|block) .*?)\n(?=\n)", text, re.S)
  assert [table.splitlines()[0].split() for table in (operators, blocks)] == [
    ["operator", "n", "ms", "share"],
    ["block", "n", "ms", "share"],
  ]
  assert [line.split()[0] for line in blocks.splitlines()[1:]] == [
    "stem",
    "block_01",
    "block_02",
    "block_03",
    "features",
    "pool",
    "hidden",
    "logits",
  ]
  for table in (operators, blocks):
    shares = [float(line.split()[-2]) for line in table.splitlines()[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.6)
  assert f"chart: {tmp_path / 'new' / 'chart.png'}" in text
  with Image.open(tmp_path / "new" / "chart.png") as image:
    assert min(image.size) > 300 and np.asarray(image.convert("L")).std() > 10
  assert [p.name for p in (tmp_path / "new").iterdir()] == ["chart.png"]


@pytest.mark.slow
def test_profiles_of_several_files_as_json(files, tmp_path):
  copies = [tmp_path / file.name for file in files]
  for file, copy in zip(files, copies, strict=True):
    copy.write_bytes(file.read_bytes())
  found = json.loads(timed("benchmark", *copies, "--runs", 10, "--profile", "--json"))
  for one, copy in zip(found, copies, strict=True):
    profile = one["profile"]
    assert profile["chart"] == f"{copy}.profile.png" and pathlib.Path(profile["chart"]).is_file()
    assert profile["sum_ms"] == pytest.approx(sum(o["ms"] for o in profile["operators"]))
    assert profile["placed"] == len(profile["operators"]) == sum(one["ops"].values())
    assert {kind: of["operators"] for kind, of in profile["by_kind"].items()} == one["ops"]


@pytest.mark.slow
def test_on_a_device(files, tmp_path):
  adb, tool = Adb(tmp_path / "bin"), program(tmp_path / "benchmark_model")
  device = ("--benchmark_model", tool, "--runs", 50)

  def run(*words):
    done = mnv3("benchmark", *words, *device, env=adb.environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout

  found = json.loads(run(files[0], "--adb", "--json"))
  assert (found["median_ms"], found["p25_ms"], found["p75_ms"], found["runs"]) == (pytest.approx(1239.807), None, None, 50)
  assert found["device"]["device"] == "Google Pixel 6 (oriole, Tensor), Android 14" and found["ops"]["CONV_2D"] > 3
  text = run(files[0], files[1], "--compare", "--adb", "ebe3968d", "--cores", "30")
  assert text.startswith("Google Pixel 6 (oriole, Tensor), Android 14; benchmark_model ")
  assert "XNNPACK, cores 30\n" in text and re.search(r"little.tflite +\d\.\d\d +1239\.8 +1240\.3 +2\.565 +1\.000\n", text)
  assert "little.tflite takes 1.000 times as long as" in text
  assert [words[3].split()[1] for words in adb.calls() if words[-1].startswith("taskset")] == ["f0", "30", "30"]
  text = run(files[0], "--adb")
  assert "median 1239.8 ms, mean 1240.3 ± 2.565 ms (no quartiles: benchmark_model does not print them)" in text
  assert "partitions" not in text


@pytest.mark.slow
def test_a_device_whose_tool_prints_no_median(files, tmp_path):
  adb, tool = Adb(tmp_path / "bin", benchmark="tflite_benchmark_model.txt"), program(tmp_path / "benchmark_model")
  words = ("--adb", "--benchmark_model", tool)
  done = mnv3("benchmark", files[0], *words, env=adb.environment)
  assert "big.tflite: mean 602.9 ± 27.69 ms" in done.stdout and "median" not in done.stdout
  done = mnv3("benchmark", *files, *words, env=adb.environment)
  assert "median ms is the mean: this benchmark_model prints no median" in done.stdout


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    ((), "the following arguments are required: FILE"),
    (("--adb", "{big}"), "--adb takes the serial number of a device, not the file '{big}'; write --adb after the files"),
    (("{big}", "--cores", "f0"), "--cores goes with --adb"),
    (("{big}", "--benchmark_model", "x"), "--benchmark_model goes with --adb"),
    (("{big}", "--profile", "--adb"), "--profile goes with this machine, not with --adb"),
    (("{big}", "--out", "x.png"), "--out goes with --profile"),
    (("{big}", "--compare"), "--compare takes two files or more"),
    (("{big}", "{little}", "--profile", "--out", "x.png"), "--out names one chart, there are several files"),
    (("{big}", "--profile", "--out", "{big}"), "expected the name of a .png file"),
    (("{big}", "{new}.tflite"), "no file '{new}.tflite'"),
    (("{big}", "README.md"), "'README.md' is not a .tflite file"),
    (("{big}", "--profil"), "did you mean '--profile'?"),
    (
      ("{big}", "--adb"),
      "2 devices are connected: ebe3968d (CPH2641), emulator-5554",
    ),
    (("{big}", "--adb", "ebe3968"), "did you mean 'ebe3968d'?"),
    (("{big}", "--adb", "ebe3968d"), "no benchmark_model in the current directory; give its path with --benchmark_model PATH"),
    (("{big}", "--adb", "ebe3968d", "--cores", "four"), "invalid --cores='four'; expected a mask of cores in hexadecimal"),
  ],
)
def test_wrong_use_is_one_sentence(words, sentence, files, tmp_path):
  names = {"big": files[0], "little": files[1], "new": tmp_path / "new"}
  adb = Adb(tmp_path / "bin", devices=(READY, SECOND))
  done = mnv3("benchmark", *(word.format(**names) for word in words), env=adb.environment)
  assert (done.returncode, done.stdout) == (2, ""), done.stderr
  assert done.stderr.startswith("mnv3: ") and done.stderr.count("\n") == 1
  assert sentence.format(**names) in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ["bin"] and not list(files[0].parent.glob("*.png"))


def test_without_adb(files, tmp_path):
  done = mnv3("benchmark", files[0], "--adb", env={"PATH": str(tmp_path)})
  assert done.returncode == 2 and "no program 'adb'; the Android platform-tools have it: https://" in done.stderr


def test_a_device_that_fails(files, tmp_path):
  adb, tool = Adb(tmp_path / "bin", benchmark="Segmentation fault\n"), program(tmp_path / "benchmark_model")
  done = mnv3("benchmark", files[0], "--adb", "--benchmark_model", tool, env=adb.environment)
  assert (done.returncode, done.stdout) == (1, "")
  assert done.stderr == "mnv3: no latency in the output of benchmark_model: Segmentation fault\n"
