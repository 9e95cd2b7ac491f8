"""Hosts of TPU slices: the processors that each virtual machine has, for reading and augmenting images."""

import dataclasses

from mnv3_jax.accelerators.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Machine:
  """Machine type of Google Cloud with TPU chips.

  Attributes:
    name: of the machine type.
    chip: of CHIPS.
    chips: on a machine.
    vcpus: processors as the operating system counts them, two on each core.
    several: False for machines that are a slice of their own; None where slices of one machine and of several have the same.
  """

  name: str
  chip: str
  chips: int
  vcpus: int
  several: bool | None = None


# names and numbers of the list of machine types that Compute Engine publishes (gcloud compute machine-types list); those of v5e
# are in cloud.google.com/tpu/docs/v5e too. It has neither v2 nor TPU7x
MACHINES = (
  Machine("ct3-hightpu-4t", "v3", 4, 96, several=False),
  Machine("ct3p-hightpu-4t", "v3", 4, 48, several=True),
  Machine("ct4p-hightpu-4t", "v4", 4, 240),
  Machine("ct5lp-hightpu-1t", "v5e", 1, 24),
  Machine("ct5lp-hightpu-4t", "v5e", 4, 112),
  Machine("ct5lp-hightpu-8t", "v5e", 8, 224),
  Machine("ct5p-hightpu-4t", "v5p", 4, 208),
  Machine("ct6e-standard-1t", "v6e", 1, 44),
  Machine("ct6e-standard-4t", "v6e", 4, 180),
  Machine("ct6e-standard-8t", "v6e", 8, 360),
)


def machine_of(topology: Topology, hosts: int) -> Machine | None:
  """Returns the machine type of the hosts of a topology; None where it is not known.

  Args:
    topology: of all devices.
    hosts: number of hosts, as the compiler divides the devices among them.
  """
  chips, several = topology.chips * topology.slices / hosts, hosts > 1
  for machine in MACHINES:
    if (machine.chip, machine.chips) == (topology.chip.name, chips) and machine.several in (None, several):
      return machine
  return None
