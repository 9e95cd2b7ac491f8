"""Input of a host: the processors that it has, what its devices need, and the verdict."""

import json

import pytest

import mnv3_jax
from mnv3_jax.accelerators.chips import CHIPS
from mnv3_jax.accelerators.host_input import HostInput
from mnv3_jax.accelerators.hosts import MACHINES, machine_of
from mnv3_jax.accelerators.topologies import parse_topology
from mnv3_jax.errors import UsageError

NEED, EACH = "images/s a host (estimated) need", "at 300 images/s each"


@pytest.mark.parametrize(
  ("topology", "hosts", "name", "vcpus"),
  [
    ("v5e:1x1", 1, "ct5lp-hightpu-1t", 24),
    ("v5e:2x2", 1, "ct5lp-hightpu-4t", 112),
    ("v5e:16x16", 64, "ct5lp-hightpu-4t", 112),
    ("v5e:2x4", 1, "ct5lp-hightpu-8t", 224),
    ("v3:2x2", 1, "ct3-hightpu-4t", 96),
    ("v3:4x4", 4, "ct3p-hightpu-4t", 48),
    ("v4:2x2x4", 4, "ct4p-hightpu-4t", 240),
    ("v6e:4x4", 4, "ct6e-standard-4t", 180),
  ],
)
def test_the_machine_of_a_host(topology, hosts, name, vcpus):
  found = machine_of(parse_topology(topology), hosts)
  assert found and (found.name, found.vcpus) == (name, vcpus)


def test_machines_that_are_not_known():
  assert machine_of(parse_topology("v2:2x2"), 1) is None and machine_of(parse_topology("v5e:1x2"), 1) is None
  assert machine_of(parse_topology("v5e:2x2", slices=3), 3) == machine_of(parse_topology("v5e:2x2"), 1)
  assert {machine.chip for machine in MACHINES} <= CHIPS.keys() and len({m.name for m in MACHINES}) == len(MACHINES)


@pytest.mark.parametrize(
  ("given", "verdict"),
  [
    ((12300, "m", 112, 300), f"12,300 {NEED} 41 of its 112 vCPUs {EACH}: the input keeps up"),
    ((33000, "m", 112, 300), f"33,000 {NEED} 110 of its 112 vCPUs {EACH}: the input keeps up with little to spare"),
    (
      (67200, "m", 112, 300),
      f"67,200 {NEED} 224 vCPUs {EACH}, it has 112: the input does not keep up, devices would wait 50 % of the time; "
      "store smaller images or choose a cheaper config.data.augment",
    ),
    ((1000, "", 0, 300), f"1,000 {NEED} 4 vCPUs {EACH}; how many a host has is not known"),
    ((11200, "m", 112, None), "to keep up, each host has to read 11,200 images/s (estimated), 100 on each of its 112 vCPUs"),
    ((1000, "", 0, None), "to keep up, each host has to read 1,000 images/s (estimated)"),
  ],
)
def test_the_verdict_is_a_sentence(given, verdict):
  found = HostInput(*given)
  assert str(found) == verdict
  assert json.loads(json.dumps(found.to_dict()))["verdict"] == verdict


def test_figures_of_a_verdict():
  found = HostInput(67200, "m", 112, 300).to_dict()
  assert (found["cores"], found["keeps_up"], found["waiting"]) == (224, False, 0.5)
  assert HostInput(100, "m", 112, 300).keeps_up and HostInput(100, "m", 112, 300).waiting == 0
  assert HostInput(100, "m", 112).keeps_up is None and HostInput(100, "", 0, 300).waiting is None


def test_the_pipeline_of_a_config_is_timed():
  found = mnv3_jax.measure_input("fashion_mnist", seconds=0.1)
  assert found.images_per_core > 0 and found.images_per_second > 0
  assert str(found).startswith("input pipeline, measured on this machine: ")
  assert str(found).endswith(" of config.data.dataset='fashion_mnist'")


@pytest.mark.slow
def test_without_imagenet_random_files_are_read():
  config = mnv3_jax.get_config("imagenet:mobilenetv3_small")
  found = mnv3_jax.measure_input(config, seconds=0.1)
  assert found.images_per_core > 1 and "random JPEG files of 500 x 375 px" in str(found)
  assert config.data.dataset == "imagenet" and config.train.batch_size == 4096


def test_what_cannot_be_timed():
  with pytest.raises(UsageError, match=r"config\.data\.dataset='folder' needs config\.data\.dir"):
    mnv3_jax.measure_input(mnv3_jax.get_config("imagenet", {"data.dataset": "folder"}))
  with pytest.raises(UsageError, match=r"invalid seconds=0; expected a number above 0"):
    mnv3_jax.measure_input("fashion_mnist", seconds=0)
