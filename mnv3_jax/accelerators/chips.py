"""TPU chips as values: rates, memory and clock of a device, each with its source."""

import dataclasses

# sources of the rates
DOMAIN = "Jouppi et al., A Domain-Specific Supercomputer for Training Deep Neural Networks, CACM 63(7), 2020, table 3"
TPU_V4 = "Jouppi et al., TPU v4: An Optically Reconfigurable Supercomputer for Machine Learning, ISCA 2023, table 4"
CLOUD_V5E = "cloud.google.com/tpu/docs/v5e"
CLOUD_7X = "cloud.google.com/tpu/docs/tpu7x, which has v5p, v6e and TPU7x in one table"
DERIVED = "derived: published peak rate over operations a cycle of the matrix units"


# estimated rates of trainings over rates that their authors published (benchmarks/calibration.py)
SPREAD = (0.91, 1.44)
CALIBRATED = f"Estimated rates were {SPREAD[0]} to {SPREAD[1]} times those that others published."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One generation of TPU. A device is what JAX calls so: a chip, or one of its two cores.

  Attributes:
    name: in the name of a topology.
    dimensions: of the interconnect of a slice.
    devices: on a chip.
    config: name of the chip configuration for libtpu; "" for its default.
    clock: cycles per second.
    flops: peak rate of bfloat16 products, operations per second and device.
    hbm: bytes of memory that a program may use on a device.
    bandwidth: of that memory, bytes per second and device.
    interconnect: bytes per second that leave a chip over all of its links.
    source: of flops, bandwidth and interconnect. `hbm` is the limit that libtpu 0.0.42 names when it refuses a program.
    clock_source: of the clock.
  """

  name: str
  dimensions: int
  devices: int
  config: str = ""
  clock: float
  flops: float
  hbm: float
  bandwidth: float
  interconnect: float
  source: str
  clock_source: str


def _chip(
  name: str,
  *,
  axes: int,
  devices: int,
  tflops: float,
  hbm: float,
  bandwidth: float,
  leaving: float,
  source: str,
  clock: float = 0,
  cycle: int = 0,
  config: str = "",
) -> Chip:
  """Builds a Chip from published numbers.

  Args:
    name, devices, source, config: as of Chip.
    axes: of the interconnect.
    tflops: peak of the chip, 10^12 bfloat16 operations per second.
    hbm: limit of a device, GiB.
    bandwidth: of the memory of the chip, GB per second.
    leaving: GB per second that leave the chip.
    clock: GHz, where the source has it; otherwise `cycle` operations are those of a cycle of the chip's matrix units.
  """
  return Chip(
    name=name,
    dimensions=axes,
    devices=devices,
    config=config,
    clock=clock * 1e9 if clock else tflops * 1e12 / cycle,
    flops=tflops * 1e12 / devices,
    hbm=hbm * 2**30,
    bandwidth=bandwidth * 1e9 / devices,
    interconnect=leaving * 1e9,
    source=source,
    clock_source=source if clock else DERIVED,
  )


# operations a cycle: a multiply and an add in each cell. For v6e and a core of TPU7x the compiler estimates 373,002 and 423,362
# operations a cycle of a large product: more than two matrix units of 256 x 256 have, less than four
_U128, _U256 = 2 * 128**2, 2 * 256**2

# fmt: off
CHIPS: dict[str, Chip] = {chip.name: chip for chip in (
  _chip("v2", axes=2, devices=2, tflops=46, hbm=7.48, bandwidth=700, leaving=4 * 496 / 8, source=DOMAIN, clock=0.70),
  _chip("v3", axes=2, devices=2, tflops=123, hbm=15.48, bandwidth=900, leaving=4 * 656 / 8, source=DOMAIN, clock=0.94),
  # as Cloud TPU has it: both cores of a chip are one device
  _chip("v4", axes=3, devices=1, tflops=275, hbm=30.75, bandwidth=1200, leaving=6 * 50, source=TPU_V4, clock=1.05,
        config="megacore"),
  _chip("v5e", axes=2, devices=1, tflops=197, hbm=15.75, bandwidth=819, leaving=400 / 2, source=CLOUD_V5E, cycle=4 * _U128),
  _chip("v5p", axes=3, devices=1, tflops=459, hbm=95.74, bandwidth=2765, leaving=1200 / 2, source=CLOUD_7X, cycle=8 * _U128),
  _chip("v6e", axes=2, devices=1, tflops=918, hbm=31.25, bandwidth=1638, leaving=800 / 2, source=CLOUD_7X, cycle=4 * _U256),
  _chip("tpu7x", axes=3, devices=2, tflops=2307, hbm=94.75, bandwidth=7380, leaving=1200 / 2, source=CLOUD_7X,
        cycle=8 * _U256),
)}
# fmt: on
