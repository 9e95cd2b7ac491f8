"""Files of other networks than ours: open sizes, index inputs, no inputs, control flow, several signatures, damaged ones."""

import json
import pathlib

import numpy as np
import pytest
from conftest import ended, mnv3

from mnv3_jax.errors import UsageError
from mnv3_jax.export import graph
from mnv3_jax.export.probe import probe
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.latency import profiler
from mnv3_jax.latency.benchmark import benchmark

FIELD = pathlib.Path(__file__).parents[1] / "data" / "field"


def content(name):
  return (FIELD / f"{name}.tflite").read_bytes()


def test_modules_of_the_current_directory_are_not_run(monkeypatch, tmp_path):
  for name in ("json", "jax", "numpy"):
    (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').write({name!r})\nraise SystemExit\n")
  monkeypatch.chdir(tmp_path)
  assert probe({"batch": content("batch")}) == {}
  assert not (tmp_path / "executed").exists()


def test_an_open_size_is_asked_for():
  with pytest.raises(UsageError, match=r"\(\?, \?, \?, 3\), of no fixed size; give one to benchmark with shape=1,224,224,3"):
    benchmark(FIELD / "dynamic.tflite", runs=1)
  status, out, err = ended("benchmark", FIELD / "dynamic.tflite", "--runs", 1)
  assert (status, out) == (2, "") and "--shape=1,224,224,3" in err


def test_an_open_size_is_given():
  (found,) = benchmark(FIELD / "dynamic.tflite", runs=2, shape=(1, 32, 48, 3)).to_dicts()
  assert found["inputs"] == [[1, 32, 48, 3]] and found["ops"] == {"CONV_2D": 1} and found["partitions"] == 1
  model = TFLiteModel(content("dynamic"), shape=(1, 32, 48, 3))
  x = np.random.default_rng(0).uniform(-1, 1, (1, 32, 48, 3)).astype(np.float32)
  # the file with this size fixed is the same network
  assert TFLiteModel(model.content).input_shapes == ((1, 32, 48, 3),)
  np.testing.assert_array_equal(TFLiteModel(model.content)(x), model(x))
  for shape in ((1, 32, 48, 4), (1, 32, 48)):
    with pytest.raises(UsageError, match=r"invalid shape=1,32,48.* it takes"):
      TFLiteModel(content("dynamic"), shape=shape)


def test_an_open_batch_is_one():
  model = TFLiteModel(content("batch"))
  assert model.input_shapes == ((1, 16, 16, 3),) and graph.operators(model.content)


@pytest.mark.slow
def test_every_file_that_runs_is_timed_beside_those_that_do_not(tmp_path):
  (tmp_path / "cut.tflite").write_bytes(content("loop")[:1000])
  bad = [FIELD / "dynamic.tflite", tmp_path / "cut.tflite", FIELD / "huge.tflite"]
  good = [FIELD / f"{name}.tflite" for name in ("embedding", "no_input", "many", "sigs", "variable", "batch")]
  done = mnv3("benchmark", *bad, *good, "--runs", 1, "--json")
  assert done.returncode == 1, done.stderr
  assert [one["file"] for one in json.loads(done.stdout)] == list(map(str, good))
  lines = [line for line in done.stderr.splitlines() if "noisy" not in line]
  assert [str(file) in line for file, line in zip(bad, [x for x in lines if "signatures" not in x], strict=True)] == [True] * 3
  assert sum("has the signatures decode, prefill; only 'decode' is timed" in line for line in lines) == 1
  status, out, err = ended("benchmark", *bad, "--runs", 1)
  assert (status, out, len(err.splitlines())) == (2, "", 3)


@pytest.mark.slow
def test_control_flow_takes_no_longer_than_the_whole():
  found = profiler.profile(content("loop"), runs=4)
  (operator,) = found.operators
  assert operator.type == "WHILE" and 0 < operator.ms <= found.whole_ms and "outside operators: -" not in str(found)


def test_a_profile_of_indices():
  assert profiler.profile(content("embedding"), runs=4).by_type().keys() == {"GATHER"}
  with pytest.raises(UsageError, match="no operators to profile"):
    profiler.profile(content("no_input"), runs=1)


@pytest.mark.slow
def test_a_file_that_never_ends():
  found = probe({"endless": content("infinite"), "other": content("batch")}, timeout=6.0)
  assert found == {"endless": "endless cannot be run: it does not finish an invocation within 6 s"}
