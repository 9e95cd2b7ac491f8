"""One training on slices of several sizes, from recorded answers of the compiler."""

import json

import pytest
from conftest import ROOT, ended
from PIL import Image

from mnv3_jax import compile_scaling
from mnv3_jax.accelerators import process
from mnv3_jax.config_files import get_config
from mnv3_jax.errors import UsageError

ANSWER = json.loads((ROOT / "tests" / "accelerators" / "recorded" / "answer.json").read_text())
SMALL = {"model.resolution": 32}
WORDS = ("--config", "configs/imagenet.py:mobilenetv3_small", "--config.model.resolution=32")


@pytest.fixture
def recorded(monkeypatch):
  """Requests to the compiler's process, which is replaced: cycles grow with the batch of a device, steps with 1 / batch."""
  requests = []

  def answer(config, topology, programs):
    size = config["train"]["batch_size"]
    requests.append((topology.name, size))
    programs = {name: dict(program) for name, program in ANSWER["programs"].items()}
    step = programs["training"]
    step |= {"batch_size": size, "cycles": 200_000 + 10_000 * size // topology.devices}
    if size // topology.devices > 1000:
      programs["training"] = {
        "batch_size": size,
        "batch_bytes": 1,
        "compiles": False,
        "reason": "RESOURCE_EXHAUSTED: too large",
      }
    hosts = max(topology.chips // 4, 1)
    return {**ANSWER, "programs": programs, "processes": hosts, "steps": 1_281_167 * 350 // size}

  monkeypatch.setattr(process, "check_installed", lambda topology: None)
  monkeypatch.setattr(process, "compile_programs", answer)
  return requests


def test_the_batch_grows_with_the_devices(recorded):
  seen = []
  config = get_config("imagenet:mobilenetv3_small", SMALL)
  found = compile_scaling(config, ["v5e:2x4", "v5e:16x16"], batch_per_device=128, on_compiled=seen.append)
  assert recorded == [("v5e:2x4", 1024), ("v5e:16x16", 32768)] and tuple(seen) == found.compilations
  small, large = found.compilations
  assert config.train.batch_size == 4096
  clock, exchanged = 197e12 / (2 * 4 * 128 * 128), ANSWER["programs"]["training"]["exchanged"]
  ms = [1e3 * 1_480_000 / clock + 1e3 * exchanged * (n - 1) / n / 200e9 for n in (8, 256)]
  assert [found.step_ms(one) for one in (small, large)] == pytest.approx(ms)
  assert found.images_per_second(large) == pytest.approx(32768e3 / ms[1])
  assert found.efficiency(small) == 1 and found.efficiency(large) == pytest.approx(ms[0] / ms[1])
  assert found.hours(large) == pytest.approx(large.steps * ms[1] / 3.6e6)
  assert large.training.collective_bytes == pytest.approx(exchanged * 255 / 256)
  assert large.training.collective_share == pytest.approx(1 - large.training.step_ms / ms[1])


def test_a_batch_of_all_devices_is_divided(recorded, tmp_path):
  config = get_config("imagenet:mobilenetv3_small", {**SMALL, "model.bn_group": 0})
  found = compile_scaling(config, ["v5e:16x16", "v5e:2x4", "v6e:2x4"])
  assert [size for _, size in recorded] == [4096] * 3
  efficiency = [found.efficiency(one) for one in found.compilations]
  # against the fewest devices of the same chip, whatever the order
  assert efficiency[1:] == [1, 1] and 0.1 < efficiency[0] < 0.6
  text = str(found)
  assert "mobilenetv3_small, training on 3 slices" in text and "nothing was run or measured" in text
  rows = [line.split() for line in text.splitlines() if line.startswith("v")]
  assert [row[:4] for row in rows[:2]] == [["v5e:16x16", "256", "4,096", "16"], ["v5e:2x4", "8", "4,096", "512"]]
  with Image.open(found.draw(tmp_path / "charts" / "scaling.png")) as image:
    assert image.format == "PNG" and image.width > 800


def test_a_slice_that_is_too_small_is_named(recorded, tmp_path):
  config = get_config("imagenet:mobilenetv3_small", {**SMALL, "train.batch_size": 16384})
  found = compile_scaling(config, ["v5e:2x4", "v5e:4x4"])
  values = found.to_dicts()
  assert values[0]["scaling"]["efficiency"] is None and values[1]["scaling"]["efficiency"] is None
  assert "v5e:2x4 does not fit: RESOURCE_EXHAUSTED: too large" in str(found) and json.dumps(values)


def test_the_batch_is_checked_for_every_slice_first(recorded):
  with pytest.raises(UsageError, match=r"invalid config\.model\.bn_group=128; expected a divisor of the 16 images"):
    compile_scaling("imagenet", ["v5e:2x4", "v5e:16x16"])
  with pytest.raises(UsageError, match="invalid batch_per_device=0; expected at least 1"):
    compile_scaling("imagenet", ["v5e:2x4"], batch_per_device=0)
  with pytest.raises(UsageError, match="invalid topologies"):
    compile_scaling("imagenet", [])
  assert recorded == []


def test_the_command_prints_one_table(recorded, tmp_path):
  slices = ("--topology", "v5e:2x4", "--topology", "v5e:4x8", "--batch_per_device", "128")
  chart = tmp_path / "scaling.png"
  status, out, err = ended("compile", *WORDS, *slices, "--images_per_core", "500", "--plot", chart)
  assert (status, err) == (0, "") and out.endswith(f"chart: {chart}\n") and chart.is_file()
  assert out.count(": the input") == 2 and out.count("efficiency ") == 1
  assert [line.split()[1:4] for line in out.splitlines() if line.startswith("v5e:4x8 ")] == [["32", "4,096", "128"]]
  status, out, _ = ended("compile", *WORDS, *slices, "--json")
  assert status == 0 and json.loads(out)[0]["scaling"]["efficiency"] == 1
