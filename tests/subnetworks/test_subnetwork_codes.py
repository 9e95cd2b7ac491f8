"""Codes of subnetworks: what they make of the weights is what the masks make of them."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_subnetworks import cuts, first_channels, random_variables, seed_network
from tiny_network import universal_network

from mnv3_jax.architectures import edits
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network
from mnv3_jax.subnetworks.codes import Codes
from mnv3_jax.subnetworks.subnetwork import Subnetwork, masked, masks, outside


@pytest.mark.slow
@pytest.mark.parametrize(("head", "padding"), [("classifier", "same"), ("classifier", "symmetric"), ("lr_aspp", "same")])
def test_weights_of_a_code_are_those_of_the_masks(head, padding):
  check_weights(seed_network(head, padding, (32, 64) if head == "lr_aspp" else (33, 48)))


@pytest.mark.slow
def test_weights_of_a_code_of_universal_and_fused_blocks():
  check_weights(universal_network())


def check_weights(seed):
  taken = {name.partition("/")[0] for layer in seed.head_layers() for name in layer.takes}
  variables = random_variables(initialize(network(seed), 0), 1)
  codes = Codes(seed)
  apply = jax.jit(codes.apply)

  @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
  @given(drawn=cuts(seed, unskippable=taken))
  def check(drawn):
    subnetwork = first_channels(seed, *drawn)
    params = variables["params"]
    expected = masked(variables, masks(subnetwork, params), outside(subnetwork, params))["params"]
    jax.tree.map(np.testing.assert_array_equal, expected, apply(codes.encode(subnetwork), params))

  check()


@pytest.mark.slow
def test_the_whole_network_has_all_its_weights():
  seed = seed_network()
  params = random_variables(initialize(network(seed), 0), 1)["params"]
  codes = Codes(seed)
  jax.tree.map(np.testing.assert_array_equal, params, codes.apply(codes.encode(Subnetwork.whole(seed)), params))


def test_other_channels_than_the_first_ones_have_no_code():
  seed = seed_network()
  whole = Subnetwork.whole(seed)
  smaller = edits.with_channels(seed, {"block_02": (20, 16)})
  kept = {"block_02/expand": tuple(range(4, 24)), "block_02/se": tuple(range(8))}
  with pytest.raises(ValueError, match="block_02/expand: expected the first 20 channels"):
    Codes(seed).encode(Subnetwork(seed, smaller, whole.blocks, kept))
