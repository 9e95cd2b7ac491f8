"""GPUs that are described to the compiler: names, descriptions, compilations from a recorded answer, which has no estimates."""

import importlib.util
import json
import re

import pytest
from conftest import ROOT, ended

from mnv3_jax import compile_for, compile_scaling
from mnv3_jax.accelerators import process
from mnv3_jax.accelerators.compiled import ESTIMATES, Compiled
from mnv3_jax.accelerators.gpus import GPUS
from mnv3_jax.accelerators.topologies import parse_devices, parse_topology
from mnv3_jax.config_files import get_config
from mnv3_jax.errors import UsageError

ANSWER = json.loads((ROOT / "tests" / "accelerators" / "recorded" / "answer.json").read_text())
# what XLA does not tell of a program for GPUs
UNKNOWN = {"flops": 0, "bytes": 0, "cycles": 0, "costs": []}
SMALL = {"model.resolution": 32, "train.batch_size": 1024}
# the training step for TPU
ANSWERED = Compiled.from_answer(parse_topology("v5e:2x4"), ANSWER["programs"]["training"])


@pytest.fixture
def recorded(monkeypatch):
  """The compiler's process is replaced by a recorded answer without estimates."""

  def answer(config, topology, programs):
    found = {name: {**program, **UNKNOWN, "temporaries": 2**30} for name, program in ANSWER["programs"].items()}
    return {**ANSWER, "programs": found, "device_kind": topology.chip.kind}

  monkeypatch.setattr(process, "check_installed", lambda topology: None)
  monkeypatch.setattr(process, "compile_programs", answer)


@pytest.mark.parametrize(
  ("text", "hosts"), [("h100:1", "1x1x1"), ("a100:8", "1x1x8"), ("h200:32", "1x4x8"), ("v100:6", "1x1x6")]
)
def test_a_name_is_a_number_of_gpus(text, hosts):
  found = parse_devices(text)
  assert (str(found), found.name, found.platform, found.devices) == (text, text, "cuda", int(text.partition(":")[2]))
  assert found.options() == {"target_config": GPUS[text.partition(":")[0]].target(), "topology": hosts}


@pytest.mark.parametrize("name", GPUS)
def test_a_description_is_a_message_of_plausible_figures(name):
  gpu, text = GPUS[name], GPUS[name].target()
  assert text.count("{") == text.count("}") and f'device_description_str: "{gpu.kind}"' in text
  figures = dict(re.findall(r"^(\w+): ([\d.]+)$", text, re.M))
  assert int(figures["device_memory_size"]) == gpu.memory and int(figures["core_count"]) == gpu.cores
  assert 15e9 < gpu.hbm / 0.75 < 200e9 and 0.8e12 < gpu.bandwidth < 6e12
  assert gpu.shared_block <= gpu.shared < 2**18 and 1 < gpu.clock_ghz < 2.5


@pytest.mark.parametrize(
  ("text", "slices", "sentence"),
  [
    ("h100", 1, "invalid topology='h100'; expected h100:NUMBER, such as 'h100:8'"),
    ("h100:0", 1, "invalid topology='h100:0'; expected h100:NUMBER"),
    ("h100:2x4", 1, "invalid topology='h100:2x4'; expected h100:NUMBER"),
    ("h100:12", 1, "invalid topology='h100:12'; expected a multiple of 8, a host has 8 GPUs"),
    ("h100:8", 2, "invalid slices=2 of GPUs; expected 1"),
    ("h10:8", 1, "invalid topology='h10:8'; 'h10' is no TPU or GPU, did you mean 'h100'?"),
  ],
)
def test_other_names_are_refused(text, slices, sentence):
  with pytest.raises(UsageError) as error:
    parse_devices(text, slices)
  assert sentence in str(error.value)


def test_a_compilation_tells_memory_alone(recorded, tmp_path):
  found = compile_for(get_config("imagenet:mobilenetv3_small", SMALL), "h100:2")
  values = found.to_dict()
  assert values["fits"] and values["memory"]["limit"] == pytest.approx(0.75 * GPUS["h100"].memory)
  assert all(
    values[key] is None for key in ("flops", "mcycles", "step_ms", "images_per_second", "bound_ms", "rows", "hours", "input")
  )
  assert values["largest_batch"]["batch_size"] > 1024
  assert set(values) >= set(ESTIMATES) == set(ANSWERED._estimates())
  text = str(found)
  assert "mobilenetv3_small on h100:2: 2 devices (NVIDIA H100 80GB HBM3)" in text and "memory, temporaries" in text
  assert "XLA estimates no times for GPUs; nothing was run or measured." in text and "ms" not in text
  with pytest.raises(UsageError, match="estimates no times for GPUs"):
    found.draw(tmp_path / "rows.png")


def test_what_needs_an_estimate_is_refused(recorded, tmp_path):
  config = get_config("imagenet:mobilenetv3_small", SMALL)
  refused = r"invalid topology='h100:2'; XLA estimates no times for GPUs, expected a TPU slice such as 'v5e:2x4'"
  with pytest.raises(UsageError, match=refused):
    compile_scaling(config, ["v5e:2x4", "h100:2"])
  with pytest.raises(UsageError, match=refused):
    compile_for(config, "h100:2", images_per_core=100)
  with pytest.raises(UsageError, match=refused):
    parse_topology("h100:2")


@pytest.mark.parametrize(
  "words", [("--plot", "x.png"), ("--measure_input",), ("--images_per_core", "9"), ("--topology", "v5e:2x4")]
)
def test_wrong_use_of_the_command(recorded, words):
  status, out, err = ended("compile", "--config", "configs/imagenet.py", "--topology", "h100:8", *words)
  assert (status, out) == (2, "") and "invalid --topology='h100:8'; XLA estimates no times for GPUs" in err


def test_the_command(recorded):
  words = (
    "compile",
    "--config",
    "configs/imagenet.py:mobilenetv3_small",
    "--config.model.resolution=32",
    "--topology",
    "h100:8",
  )
  status, out, err = ended(*words)
  assert (status, err) == (0, "") and "memory, limit" in out and "largest training batch" in out
  status, out, _ = ended(*words, "--json")
  assert status == 0 and json.loads(out)["mcycles"] is None


def test_a_sweep_has_no_hours_on_gpus(tmp_path):
  status, _, err = ended("sweep", "table5", "--dry_run", "--runs", tmp_path, "--topology", "h100:8")
  assert status == 2 and "invalid --topology='h100:8'; XLA estimates no times for GPUs" in err


def test_the_environment_of_the_compiler():
  given = {"CUDA_VISIBLE_DEVICES": "-1", "XLA_FLAGS": "--xla_mine=1"}
  found = process.environment(given, parse_devices("h100:1"))
  assert found["XLA_FLAGS"] == f"{process.GPU_FLAGS} --xla_mine=1" and "CUDA_VISIBLE_DEVICES" not in found
  assert process.environment(given, parse_devices("v5e:2x4"))["XLA_FLAGS"] == "--xla_mine=1"


def test_without_the_compiler_a_sentence_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UsageError, match=r"the compiler for GPUs is not installed; pip install 'jax\[cuda12\]'"):
    process.check_installed(parse_devices("h100:1"))
