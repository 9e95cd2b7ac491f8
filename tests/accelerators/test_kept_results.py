"""What the documentation says of the programs that were compiled: it follows from the kept results."""

import json

from conftest import ROOT

from mnv3_jax.accelerators.chips import SPREAD

RESULTS = ROOT / "benchmarks" / "results"
PAGE = (ROOT / "docs" / "tpu.md").read_text()


def kept(name):
  return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_step_for_tpu_beside_that_of_stock_layers():
  ratios = {case["case"]: case["ours"]["mcycles"] / case["stock"]["mcycles"] for case in kept("tpu_step")}
  of = {chip: [ratio for name, ratio in ratios.items() if name.endswith(chip)] for chip in ("v3", "v4", "v5e", "v6e")}
  assert all(len(found) == 4 for found in of.values())
  newer = of["v5e"] + of["v6e"]
  assert max(newer) < 0.95 and f"On v5e and v6e it takes {min(newer):.2f} to {max(newer):.2f} of the cycles" in PAGE
  spans = {chip: f"{min(of[chip]):.2f} to {max(of[chip]):.2f}" for chip in ("v4", "v3")}
  assert f"On v4\nit takes {spans['v4']} of them, and on v3 {spans['v3']}" in PAGE


def test_the_efficiency_of_a_fixed_batch_is_stated():
  (fixed,) = (case for case in kept("scaling") if case["case"] == "fixed")
  small, large = fixed["slices"]
  assert small["batch_size"] == large["batch_size"] == 4096
  assert f"images/s a device fall to {large['scaling']['efficiency']:.2f} of those of eight devices" in PAGE
  ratio = large["bytes"] / 16 / (small["bytes"] / 512)
  assert f"then takes {ratio:.1f} times the memory traffic" in PAGE


def test_groups_of_eight_channels_take_the_least():
  """Of a network together; of single layers they take at most a tenth more than the least."""
  layers = [layer["mcycles"] for layer in kept("tpu_convolutions")]
  assert all(layer["8"] <= 1.1 * min(layer.values()) for layer in layers)
  assert sum(layer["8"] for layer in layers) < 0.9 * sum(layer["1"] for layer in layers)


def test_smaller_batches_keep_one_channel_a_group():
  layers = [layer["mcycles"] for layer in kept("tpu_convolutions_32")]
  ratio = sum(layer["8"] for layer in layers) / sum(layer["1"] for layer in layers)
  assert ratio > 1.5 and f"for 32 images groups of eight would take {ratio:.1f} times the cycles" in PAGE


def test_the_spread_of_the_estimate_is_stated():
  ratios = [case["estimated"] / rate for case in kept("calibration") for rate in case["measured"]]
  assert len(kept("calibration")) >= 5 and (round(min(ratios), 2), round(max(ratios), 2)) == SPREAD
  assert f"The ratios lie between {min(ratios):.2f} and {max(ratios):.2f}." in PAGE


def test_every_network_and_head_compiles_for_a_gpu():
  cases = kept("gpu_compile")
  assert {"mobilenetv3_small", "mobilenetv2", "mobilenetv1", "mnasnet_a1", "lr_aspp", "r_aspp", "ssdlite"} <= {
    c["case"] for c in cases
  }
  assert all(case["compiles"] and case["fits"] and case["evaluation"]["compiles"] for case in cases)


def test_the_share_of_the_first_blocks_is_stated():
  (small,) = (case for case in kept("accelerators") if case["case"] == "small")
  share = (small["rows"]["block_01"] + small["rows"]["block_02"]) / small["step_ms"]
  assert f"which have the largest maps, take {100 * share:.0f} % of the" in PAGE
