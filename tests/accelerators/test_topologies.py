"""Names of TPU slices, and the table of chips."""

import pytest
from conftest import ROOT

from mnv3_jax.accelerators.chips import CHIPS
from mnv3_jax.accelerators.topologies import parse_topology
from mnv3_jax.errors import UsageError


@pytest.mark.parametrize(
  ("text", "slices", "devices", "options"),
  [
    ("v5e:2x4", 1, 8, {}),
    ("v5e:1x1", 1, 1, {"chips_per_host_bounds": [1, 1, 1]}),
    ("v3:4x4", 1, 32, {}),
    ("v4:2x2x4", 1, 16, {"chip_config_name": "megacore"}),
    ("tpu7x:2x2x1", 1, 8, {}),
    ("v6e:4x8", 3, 96, {"num_slices": 3}),
  ],
)
def test_a_name_is_a_slice(text, slices, devices, options):
  found = parse_topology(text, slices)
  assert (found.name, found.devices, found.options()) == (text, devices, options)
  assert str(found) == (text if slices == 1 else f"{slices} slices of {text}")


@pytest.mark.parametrize(
  ("text", "sentence"),
  [
    ("v5:2x4", "invalid topology='v5:2x4'; 'v5' is no TPU or GPU, did you mean 'v5p'?"),
    ("v5e", "invalid topology='v5e'; expected v5e:CHIPSxCHIPS, such as 'v5e:2x2'"),
    ("v5e:2x", "invalid topology='v5e:2x'; expected v5e:CHIPSxCHIPS, such as 'v5e:2x2'"),
    ("v5e:0x2", "expected v5e:CHIPSxCHIPS"),
    ("v4:2x2", "slices of v4 have 3 axes, such as 'v4:2x2x4'"),
    ("v5e:2x3", "expected even numbers of chips, a host has 2 x 2"),
    ("v5e:1000x1000", "of 1,000,000 chips; expected at most 9,216"),
  ],
)
def test_other_names_are_refused(text, sentence):
  with pytest.raises(UsageError) as error:
    parse_topology(text)
  assert sentence in str(error.value)


def test_the_number_of_slices_is_checked():
  with pytest.raises(UsageError, match="invalid slices=0; expected at least 1"):
    parse_topology("v5e:2x4", 0)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_rates_of_a_chip_are_plausible(chip):
  """Operations a byte and a cycle lie where those of all generations do: a wrong unit would be a factor of 8 or 1000."""
  assert 60 < chip.flops / chip.bandwidth < 600
  assert 2**15 <= chip.flops / chip.clock <= 1.01 * 2**19
  assert 0.6e9 < chip.clock < 2.3e9 and 7e9 < chip.hbm < 110e9
  assert 0.05 < chip.interconnect / (chip.bandwidth * chip.devices) < 0.5
  assert chip.source and chip.clock_source


def test_the_page_has_the_chips_as_they_are():
  page = (ROOT / "docs" / "tpu.md").read_text()
  for name, chip in CHIPS.items():
    numbers = [f"{chip.clock / 1e9:.2f}", f"{chip.flops / 1e12:,.0f}", f"{chip.hbm / 2**30:.2f}"]
    numbers += [f"{chip.bandwidth / 1e9:,.0f}", f"{chip.interconnect / 1e9:,.0f}"]
    assert f"| `{name}` | {chip.devices} | {chip.dimensions} | {' | '.join(numbers)} |" in page
