"""The plot of a NetAdapt search beside trained networks: its numbers, and what it refuses."""

import json
import sys

import pytest
from conftest import ROOT
from tiny_run import tiny_config
from tiny_seed import MODEL, write_table

from mnv3_jax.architectures import edits, fields
from mnv3_jax.latency.latency_table import LatencyTable, predict_latency
from mnv3_jax.search.result_files import config_text

sys.path.insert(0, str(ROOT / "experiments"))
import netadapt


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  return write_table(tmp_path_factory.mktemp("table"))


def config(**changes):
  return tiny_config(**{"model.name": "mobilenetv3_small", **{f"model.{n}": v for n, v in MODEL.items()}, **changes})


def network(**changes):
  return fields.architecture(**{**config().model, "num_classes": 10, **changes})


def write_search(path):
  """Writes what the experiment reads of a finished search with two steps."""
  seed = network()
  steps, net = [], seed
  for number, sizes in enumerate(({"block_01": (48, 8), "block_02": (64, 8)}, {"block_02": (32, 8)}), 1):
    net = edits.with_channels(net, sizes)
    # as a drift of 1.5 has it
    steps.append(
      {"step": number, "channels": fields.channels_text(net), "latency_ms": 99.0, "top1": 0.5 - number / 10, "control": 0.5}
    )
  path.mkdir()
  test = {"seed": {"top1": 0.6}, "result": {"top1": 0.4}}
  result = {
    "model": seed.name,
    "metric": "top1",
    "seed_ms": 7.0,
    "target_ms": 3.0,
    "seconds": 61.0,
    "device": "a phone",
    "channels": steps[-1]["channels"],
  }
  (path / "result.json").write_text(json.dumps({**result, "steps": steps, "test": test}))
  values = config(**{"model.channels": steps[-1]["channels"]}).to_dict()
  (path / "search.json").write_text("{}")
  (path / "config.py").write_text(config_text("Found.", "config.py", net, values))
  return net


def write_run(path, **metrics):
  path.mkdir()
  (path / "config.json").write_text(json.dumps(config().to_dict()))
  (path / "result.json").write_text(json.dumps({"metrics": {"test": {"raw": metrics}}}))


def test_figures(table, tmp_path, capsys):
  found = write_search(tmp_path / "search")
  for seed, top1 in enumerate((0.5, 0.6)):
    write_run(tmp_path / f"whole_{seed}", top1=top1)
  runs = [tmp_path / "whole_0", tmp_path / "whole_1"]
  words = ["--searches", tmp_path / "search", "--table", table, "--runs", *runs, "--out", tmp_path / "out"]
  assert netadapt.main(list(map(str, words))) == 0
  figures = json.loads((tmp_path / "out" / "figures.json").read_text())
  latencies = LatencyTable.read(table)
  search = figures["searches"]["search"]
  path = search["path"]
  assert [point["held_out"] for point in path] == [0.5, 0.4, 0.3] and path[0]["ms"] == 7.0
  assert path[-1]["ms"] == predict_latency(found, latencies) < path[1]["ms"]
  assert figures["runs"] == {"whole": {"ms": predict_latency(network(), latencies), "tests": [0.5, 0.6]}}
  assert figures["seed"]["test"] == 0.6 and search["test"] == 0.4 and figures["device"] == "a phone"
  assert (tmp_path / "out" / "path.png").stat().st_size > 1000
  shown = capsys.readouterr().out
  assert "0.5500 ± 0.0707 (2 seeds)" in shown and "2 steps in 1 min 01 s" in shown
  assert (tmp_path / "out" / "search" / "result.json").is_file()
  # the kept results again, without a search
  assert netadapt.main(["--out", str(tmp_path / "out")]) == 0 and capsys.readouterr().out == shown


def test_what_is_refused(table, tmp_path, capsys):
  write_search(tmp_path / "search")
  write_run(tmp_path / "other", miou=0.5)
  (tmp_path / "empty").mkdir()
  other = write_table(tmp_path, {"device": "a clock", "runtime": "none", "threads": 1})
  for words, message in (
    (["--searches", tmp_path / "search", "--table", other], "of 'a clock'; expected that of 'a phone'"),
    (["--searches", tmp_path / "empty", "--table", table], "expected the directory of a finished mnv3 search netadapt"),
    (
      ["--searches", tmp_path / "search", "--table", table, "--runs", tmp_path / "other"],
      "expected a finished run with the metric 'top1'",
    ),
  ):
    with pytest.raises(netadapt.UsageError, match=message):
      netadapt.main([*map(str, words), "--out", str(tmp_path / "out")])
  for words in ([], ["--searches", tmp_path / "search"]):
    with pytest.raises(SystemExit):
      netadapt.main([*map(str, words), "--out", str(tmp_path / "out")])
  assert "expected" in capsys.readouterr().err and not (tmp_path / "out").exists()
  with pytest.raises(SystemExit):
    netadapt.main(["--help"])
  assert "python experiments/netadapt.py --searches runs/search --table" in capsys.readouterr().out
