"""The compiler for TPU: the first blocks of V3-Small cost what they cost before, on slices of several sizes and in sweeps.

Needs libtpu, which make engines installs.
"""

import json

import pytest
from conftest import ROOT
from PIL import Image

import mnv3_jax
from mnv3_jax.tables.table import Row, Table

RECORD = ROOT / "tests" / "accelerators" / "recorded" / "small_v5e.json"
REGENERATE = "PYTHONPATH=tests python tests/accelerators/test_tpu_compiler.py   (say in the commit why)"
# every kind of layer; all of the network takes the compiler minutes, and so do smaller images
BLOCKS = {"train.batch_size": 1024, "model.blocks": "k3_e16_o16_s2_re_se0.25,k3_e72_o24_s2_re,k5_e96_o40_s2_hs_se0.25"}
KEPT = ("mcycles", "bytes")

pytestmark = [pytest.mark.engines, pytest.mark.slow]


def figures():
  """Returns the figures of both programs that are compared."""
  config = mnv3_jax.get_config("imagenet:mobilenetv3_small", BLOCKS)
  training = mnv3_jax.compile_for(config, "v5e:2x4").to_dict()
  programs = {"training": training, "evaluation": training["evaluation"]}
  assert all(program["fits"] for program in programs.values())
  return {
    name: {**{key: program[key] for key in KEPT}, "temporaries": program["memory"]["temporaries"]}
    for name, program in programs.items()
  }


def test_the_compiled_step_costs_no_more():
  found, expected = figures(), json.loads(RECORD.read_text())
  for name, program in expected.items():
    assert found[name] == pytest.approx(program, rel=0.05), REGENERATE


@pytest.mark.parametrize("recipe", [pytest.param("scenes_segmentation", marks=pytest.mark.nightly), "scenes_detection"])
def test_every_task_compiles_for_several_hosts(recipe):
  fields = {"model.resolution": 64, "model.width": 0.35, "train.batch_size": 16, "model.dtype": "bfloat16"}
  found = mnv3_jax.compile_for(mnv3_jax.get_config(recipe, fields), "v5e:2x4")
  assert found.training.fits and found.evaluation.fits and found.processes == 2, str(found)
  assert found.training.exchanged > 0 and set(found.training.by_row()) - {"other"}


FIRST = "k3_e16_o16_s2_re_se0.25"


@pytest.mark.nightly
def test_a_device_computes_the_same_on_a_larger_slice():
  config = mnv3_jax.get_config("imagenet:mobilenetv3_small", {"model.blocks": FIRST, "model.bn_group": 0})
  found = mnv3_jax.compile_scaling(config, ["v5e:2x2", "v5e:4x4"], batch_per_device=16)
  small, large = found.compilations
  assert (small.processes, large.processes, large.training.batch_size) == (1, 4, 256)
  assert large.training.step_ms == pytest.approx(small.training.step_ms, rel=0.05)
  assert large.training.collective_bytes > small.training.collective_bytes > 0
  assert 0.8 < (found.efficiency(large) or 0) < 1.05


@pytest.mark.nightly
def test_the_hours_of_a_sweep(tmp_path):
  rows = [Row(name=name, model="mobilenetv3_small", fields={"blocks": FIRST}, run=name) for name in ("one", "other")]
  table = Table(title="First block", source="our own", rows=tuple(rows))
  found = mnv3_jax.sweep(table, scale="mini", seeds=2, runs=tmp_path, dry_run=True, topology="v5e:2x2").tpu_hours
  assert found and found.programs == 1 and [row.runs for row in found.rows] == [2, 2]
  assert found.hours > 0 and found.rows[0].hours == found.rows[1].hours, str(found)


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "configs").glob("*.py")))
def test_every_config_compiles(name, tmp_path):
  config = mnv3_jax.get_config(name)
  if config.data.dataset == "folder":
    config.data.dir = str(tmp_path)
    for file in ("train/ant/0.png", "train/bee/0.png", "test/ant/0.png", "test/bee/0.png"):
      (tmp_path / file).parent.mkdir(parents=True)
      Image.new("RGB", (32, 32)).save(tmp_path / file)
  if config.quantize_aware:
    short = {"train.steps": 1, "train.batch_size": 8, "data.eval_split": "test[:8]", "evaluate.batch_size": 8}
    init = mnv3_jax.train(mnv3_jax.get_config(name.removesuffix("_qat"), short), tmp_path / "float")
    config.train.init = str(init.workdir)
  found = mnv3_jax.compile_for(config, "v5e:2x2", batch_per_device=max(config.model.bn_group or 0, 8))
  assert found.training.fits and found.evaluation.fits, str(found)


if __name__ == "__main__":
  RECORD.write_text(json.dumps(figures(), indent=1) + "\n")
