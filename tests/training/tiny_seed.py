"""A trained network that compiles in a moment, a latency table for it, and the command that searches it."""

import json

from conftest import mnv3, ok

from mnv3_jax.architectures import fields, units
from mnv3_jax.architectures.spec import Block
from mnv3_jax.latency.latency_table import VERSION

MODEL = {"blocks": "k3_e48_o16_s2_re,k3_e64_o16_s1_hs", "resolution": 16}


def train(folder):
  """Trains the network; returns its run directory."""
  words = ["train", "--config", "fashion_mnist", "--workdir", folder / "run", "--config.train.epochs=1.0"]
  words += ["--config.data.train_split=train[:200]", "--config.data.eval_split=test[:50]", "--config.train.batch_size=16"]
  ok(*words, "--config.optim.warmup=0.0", *(f"--config.model.{name}={value}" for name, value in MODEL.items()))
  return folder / "run"


def write_table(folder, about=None):
  """Writes a latency table of the network, its milliseconds by its blocks' weights; returns the file."""
  net = fields.architecture("mobilenetv3_small", num_classes=10, **MODEL)
  found = {"empty": {"alone_ms": [0.1], "runs": 1, "date": ""}}
  own = units.distinct(net)
  for unit in (*own, *units.grid(own, 3)):
    ms = [unit.weights * 1e-3 if isinstance(unit.row, Block) else 0.1]
    found[unit.key] = {"alone_ms": ms, "copies_ms": ms, "copies": 2, "runs": 1, "date": ""}
  about = about or {"device": "a phone", "runtime": "none", "threads": 1}
  (folder / "table.json").write_text(json.dumps({"version": VERSION, **about, "date": "", "units": found}))
  return folder / "table.json"


def search_words(run, table, workdir):
  """Returns the words of a search of a few steps."""
  words = ["search", "netadapt", "--init", run, "--workdir", workdir, "--table", table, "--target_ratio", "0.8"]
  return [str(word) for word in (*words, "--delta", "0.04", "--steps", "2", "--held_out", "20")]


def check_search_of_two(folder, engine, *words, env=None):
  """Runs a search by two processes of an engine, and checks that both took part, and its result."""
  run, table = train(folder), write_table(folder)
  done = mnv3(*search_words(run, table, folder / "search"), "--engine", engine, "--jobs", 2, *words, env=env)
  assert done.returncode == 0, done.stdout + done.stderr
  assert "2 of 2 trials done" in done.stdout, done.stdout
  result = json.loads((folder / "search" / "result.json").read_text())
  logs = [(folder / "search" / "logs" / f"worker_{i}.log").read_text() for i in (1, 2)]
  assert all("fine-tuned on train[:200]" in log for log in logs), logs
  # each step is finished, and said, by one of them; and said here
  for step in result["steps"]:
    line = f"step {step['step']}: {step['winner']}, "
    assert "".join(logs).count(line) == 1 == done.stdout.count(line), done.stdout
  assert len(result["steps"]) >= 2 and result["latency_ms"] <= result["target_ms"]
  return run, table, result
