"""Compilations from a recorded answer of the compiler: figures, text, chart, search for the largest batch, errors."""

import dataclasses
import importlib.util
import json
import subprocess

import pytest
from conftest import ROOT, ended
from PIL import Image

from mnv3_jax import compile_for
from mnv3_jax.accelerators import largest_batch, process
from mnv3_jax.accelerators.compiled import Compiled, Memory
from mnv3_jax.accelerators.compiler import _too_large
from mnv3_jax.accelerators.largest_batch import LargestBatch
from mnv3_jax.accelerators.topologies import parse_topology
from mnv3_jax.config_files import get_config
from mnv3_jax.errors import FatalError, UsageError

# configs/imagenet.py:mobilenetv3_small at 32 px, 1024 images, for v5e:2x4
ANSWER = json.loads((ROOT / "tests" / "accelerators" / "recorded" / "answer.json").read_text())
SMALL = {"model.resolution": 32, "train.batch_size": 1024}
REFUSED = {"batch_size": 1024, "batch_bytes": 10, "compiles": False, "reason": "RESOURCE_EXHAUSTED: too large", "used": 4e10}

V5E = parse_topology("v5e:2x4")


@pytest.fixture
def recorded(monkeypatch):
  """The requests to the compiler's process, which is replaced by the recorded answer."""
  requests = []

  def answer(config, topology, programs):
    requests.append((config, topology, programs))
    return {**ANSWER, "programs": {**ANSWER["programs"]}}

  monkeypatch.setattr(process, "check_installed", lambda topology: None)
  monkeypatch.setattr(process, "compile_programs", answer)
  return requests


def test_the_figures_follow_from_the_answer(recorded):
  found = compile_for(get_config("imagenet:mobilenetv3_small", SMALL), "v5e:2x4")
  ((config, topology, programs),) = recorded
  assert config["model"]["resolution"] == 32 and topology.name == "v5e:2x4" and programs == ("training", "evaluation")
  values, training = found.to_dict(), ANSWER["programs"]["training"]
  keys = "topology devices device_kind compiles fits memory flops bytes mcycles step_ms images_per_second bound_ms rows"
  assert set(keys.split()) <= set(values)
  clock = 197e12 / (2 * 4 * 128 * 128)
  assert values["step_ms"] == pytest.approx(1e3 * training["cycles"] / clock)
  assert values["images_per_second"] == pytest.approx(1024 / values["step_ms"] * 1e3)
  assert values["hours"] == pytest.approx(437850 * values["step_ms"] / 3.6e6)
  bounds = {"compute": training["flops"] / 197e12, "memory": training["bytes"] / 819e9}
  bounds["collectives"] = training["exchanged"] * 7 / 8 / 200e9
  assert values["bound_ms"] == pytest.approx({name: 1e3 * seconds for name, seconds in bounds.items()})
  assert values["bound"] == "memory" and values["fits"] and values["memory"]["arguments"] == training["arguments"]
  assert sum(values["rows"].values()) == pytest.approx(values["step_ms"]) and next(iter(values["rows"])) == "stem"
  # nothing is estimated from a step that takes no memory beside its arguments
  assert values["largest_batch"] is None
  json.dumps(values)


def test_the_text_calls_estimates_so(recorded, tmp_path):
  found = compile_for(get_config("imagenet:mobilenetv3_small", SMALL), "v5e:2x4")
  text = str(found)
  assert text.startswith("mobilenetv3_small on v5e:2x4: 8 devices (TPU v5 lite), 2 hosts\n")
  assert "nothing was run or measured" in text and "437,850 steps in 0.1 hours (estimated)" in text
  assert f"each host has to read {found.training.images_per_second / 2:,.0f} images/s (estimated)" in text
  assert all("estimate" in line for line in text.splitlines() if " ms" in line and "least" not in line and "block" not in line)
  path = found.draw(tmp_path / "charts" / "rows.png")
  with Image.open(path) as image:
    assert image.format == "PNG" and image.width > 800


def test_a_step_that_does_not_fit(recorded, monkeypatch):
  answer = {**ANSWER, "programs": {**ANSWER["programs"], "training": REFUSED}}
  monkeypatch.setattr(process, "compile_programs", lambda *_: answer)
  found = compile_for(get_config("imagenet:mobilenetv3_small", SMALL), "v5e:2x4")
  values = found.to_dict()
  assert not values["compiles"] and not values["fits"] and values["hours"] is None and values["evaluation"]["fits"]
  assert "training step of 1,024 images does not compile: RESOURCE_EXHAUSTED: too large" in str(found)


@pytest.mark.parametrize(
  ("message", "used"),
  [
    ("the total memory required for HLO temporaries (298.02G) exceeds available HBM (15.75G).", 298.02 * 2**30),
    ("Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm. Exceeded by 4.75G.", 20.5 * 2**30),
    ("INTERNAL: something else", None),
  ],
)
def test_the_size_of_a_refused_program_is_in_the_refusal(message, used):
  assert _too_large(message).get("used") == used


def step(size, state=1e9, per_image=1e7, constant=2e9):
  """A training step of v5e, whose memory is a line of the batch."""
  topology = parse_topology("v5e:2x4")
  memory = Memory(state, constant + per_image * size, 0, topology.chip.hbm)
  found = Compiled(topology, size, 0, memory=memory, used=memory.used)
  return found if found.fits else dataclasses.replace(found, memory=None, reason="too large")


@pytest.mark.parametrize("first", [64, 512, 1024, 4096])
def test_the_largest_batch_is_found_by_few_compilations(first):
  sizes = []
  found = largest_batch.search(step(first), lambda size: (sizes.append(size), step(size))[1], 8)
  largest = int((step(1).topology.chip.hbm - 3e9) / 1e7) // 8 * 8
  assert found == LargestBatch(largest, compiled=True) and len(sizes) <= largest_batch.TRIALS


def test_no_batch_fits():
  found = largest_batch.search(step(64, state=3e10), lambda size: step(size, state=3e10), 8)
  assert found.batch_size == 0


def test_the_estimate_from_one_compilation_is_cautious():
  assert 0 < largest_batch.estimate(step(512), None, 8) < largest_batch.estimate(step(512), step(1024), 8)


def test_the_environment_of_the_compiler():
  found = process.environment({"PATH": "p", "PYTHONPATH": "mine", "TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "tpu"}, V5E)
  assert found["JAX_PLATFORMS"] == "cpu" and found["TPU_SKIP_MDS_QUERY"] == "1" and found["TPU_WORKER_HOSTNAMES"] == "a,b"
  assert found["PYTHONPATH"].split(":") == [str(ROOT), "mine"]


def test_a_compiler_that_ends_without_an_answer(monkeypatch):
  def ended_badly(*words, **_):
    return subprocess.CompletedProcess(words, 134, "", "libtpu: check failed\nAborted")

  monkeypatch.setattr(subprocess, "run", ended_badly)
  with pytest.raises(FatalError, match="the compiler for v5e:2x4 ended without an answer: Aborted"):
    process.compile_programs({}, parse_topology("v5e:2x4"), ["training"])


def test_an_invalid_config_is_the_callers_error(monkeypatch):
  answer = subprocess.CompletedProcess([], 0, 'noise\n{"invalid": "invalid config.train.batch_size=3"}\n', "")
  monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
  with pytest.raises(UsageError, match=r"invalid config\.train\.batch_size=3"):
    process.compile_programs({}, parse_topology("v5e:2x4"), ["training"])


def test_without_libtpu_a_sentence_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UsageError, match=r"pip install 'mnv3_jax\[tpu\]'"):
    process.check_installed(V5E)


CONFIG = ("--config", "configs/imagenet.py:mobilenetv3_small")


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("--topology", "v5e:2x3"), "invalid --topology='v5e:2x3'; expected even numbers of chips"),
    (("--topology", "v5e:2x2", "--topology", "v9:2x2"), "invalid --topology='v9:2x2'; 'v9' is no TPU"),
    (("--topology", "v5e:2x4", "--config.train.batch_size=1001"), "invalid config.train.batch_size=1001 for 8 devices"),
    (("--topology", "v5e:2x4", "--config.optim.name=none"), "invalid config.optim.name='none', which imported weights have"),
    (("--topology", "v5e:2x4", "--slices", "0"), "argument --slices: '0' is not a whole number above 0"),
    (("--topology", "v5e:2x4", "--plot", "x.jpg"), "invalid --plot='x.jpg'; expected the name of a .png file"),
    (("--topology", "v5e:2x4", "--batch_per_device", "0"), "argument --batch_per_device: '0' is not a whole number above 0"),
    (
      ("--topology", "v5e:2x4", "--batch_per_device", "100"),
      "invalid config.model.bn_group=128; expected a divisor of the 100 images",
    ),
    (
      ("--topology", "v5e:2x4", "--topology", "v5e:16x16", "--config.train.batch_size=4096"),
      "invalid config.model.bn_group=128; expected a divisor of the 16 images that a device processes at a time",
    ),
    (
      ("--topology", "v5e:2x4", "--batch_per_device", "128", "--config.train.batch_size=4096"),
      "--batch_per_device and --config.train.batch_size both set the batch; expected one of them",
    ),
    (("--topology", "v5e:2x4", "--images_per_core", "-1"), "argument --images_per_core: '-1' is not a number above 0"),
    (("--topology", "v5e:2x4", "--images_per_core", "9", "--measure_input"), "--images_per_core gives what --measure_input"),
  ],
)
def test_wrong_use(words, sentence):
  status, out, err = ended("compile", *CONFIG, *words)
  assert (status, out) == (2, "") and sentence in err and len(err.splitlines()) == 1


def test_the_command(recorded, tmp_path):
  status, out, err = ended("compile", *CONFIG, "--topology", "v5e:2x4", "--plot", tmp_path / "a.png")
  assert (status, err) == (0, "") and "compiling for v5e:2x4: 8 devices" in out and "images/s, estimated" in out
  assert out.endswith(f"chart: {tmp_path / 'a.png'}\n") and (tmp_path / "a.png").is_file()
  status, out, _ = ended("compile", *CONFIG, "--topology", "v5e:2x4", "--topology", "v5e:2x4", "--json")
  assert status == 0 and [one["topology"] for one in json.loads(out)] == ["v5e:2x4", "v5e:2x4"]
