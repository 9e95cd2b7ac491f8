"""FILE.json."""

import json

import pytest
from conftest import mnv3, tiny_architecture

from mnv3_jax.errors import UsageError
from mnv3_jax.export import record, tflite as exporting
from mnv3_jax.export.random_weights import random_weights

HERE = {"device": "a laptop", "runtime": "LiteRT 2", "threads": 1, "kind": "host"}


def test_one_latency_for_each_device():
  found = record.with_latency({"file": "m", "kind": "int8"}, HERE, {"median_ms": 3.0})
  found = record.with_latency(found, {**HERE, "threads": 2}, {"median_ms": 2.0})
  found = record.with_latency(found, HERE, {"median_ms": 2.7, "ratio_to_float": 0.5})
  found = record.with_latency(found, HERE, {"median_ms": 2.5})
  assert found["latencies"][-1]["ratio_to_float"] == 0.5
  assert [(known["threads"], known["median_ms"]) for known in found["latencies"]] == [(2, 2.0), (1, 2.5)]
  assert found["kind"] == "int8"


@pytest.mark.parametrize("text", ["{", "[]", '{"latencies": 3}', '{"latencies": [3]}'])
def test_what_is_no_record_is_left_alone(text, tmp_path):
  (tmp_path / "m.tflite.json").write_text(text)
  with pytest.raises(UsageError, match=r"m\.tflite\.json"):
    record.read(tmp_path / "m.tflite")


@pytest.mark.slow
def test_benchmark_keeps_what_it_measured(tmp_path):
  a = tiny_architecture()
  variables, images = random_weights(a)
  for name in ("a.tflite", "b.tflite"):
    exporting.write_tflite(a, variables, tmp_path / name, images)
  record.write(tmp_path / "a.tflite", {"file": "a.tflite", "kind": "none"})
  words = ("benchmark", tmp_path / "a.tflite", tmp_path / "b.tflite", "--runs", 5, "--keep")
  assert mnv3(*words).returncode == 0
  assert mnv3(*words).returncode == 0
  found = {name: record.read(tmp_path / name) for name in ("a.tflite", "b.tflite")}
  assert found["a.tflite"]["kind"] == "none"
  assert all(len(known["latencies"]) == 1 and known["latencies"][0]["median_ms"] > 0 for known in found.values())
  (tmp_path / "b.tflite.json").write_text("{")
  before = (tmp_path / "a.tflite.json").read_text()
  refused = mnv3(*words)
  assert refused.returncode == 2 and "b.tflite.json' is damaged" in refused.stderr
  assert (tmp_path / "a.tflite.json").read_text() == before and json.loads(before)
