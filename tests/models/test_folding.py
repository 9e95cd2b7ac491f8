"""Batch norm folded into kernels: the same outputs, without batch norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnv3_jax
from mnv3_jax.architectures import cost
from mnv3_jax.architectures.fields import architecture
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network

# few blocks: every kind of layer is there
BLOCKS = "k3_e16_o16_s2_re_se0.25,k3_e72_o24_s2_re,k5_e96_o40_s2_hs_se0.25"
NETWORKS = {
  "mobilenetv1": {"blocks": "k3_o16_s2_r6,k3_o24_s2_r6"},
  "mobilenetv3_small": {"blocks": BLOCKS},
  # universal blocks with both, one and no depthwise convolutions, and a hidden layer with batch norm
  "mobilenetv4_conv_small": {"blocks": "f3_o16_s2_re_act,u5k3_x2_o24_s2_re,u0k0_x2_o24_s1_re_se0.25,u3k0_x2_o32_s2_re"},
  "lr_aspp": {"name": "mobilenetv3_small", "head": "lr_aspp", "blocks": BLOCKS},
  "r_aspp": {"name": "mobilenetv3_small", "head": "r_aspp", "blocks": BLOCKS},
  "ssdlite": {"name": "mobilenetv3_small", "head": "ssdlite"},
}


def trained(name, **compute):
  """A network with statistics and scales of training: some negative, some variances tiny."""
  options = {"name": name, "resolution": 64, "num_classes": 5, **NETWORKS[name]}
  net = architecture(**options)
  model = network(net, Compute(**compute))
  variables, rng = initialize(model, 0), np.random.default_rng(0)

  def changed(path, value):
    kind = path[-1].key
    if kind == "var":
      return rng.uniform(1e-4, 4, value.shape).astype(np.float32)
    if kind == "scale":
      return rng.normal(1, 0.5, value.shape).astype(np.float32)
    return rng.normal(0, 0.2, value.shape).astype(np.float32) if kind in ("mean", "bias") else np.asarray(value)

  return model, jax.tree_util.tree_map_with_path(changed, variables)


def images():
  return np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_stay(name):
  model, variables = trained(name)
  folded, weights = mnv3_jax.fold_batch_norm(model, variables)
  expected, found = (jax.jit(m.apply)(v, images()) for m, v in ((model, variables), (folded, weights)))
  for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
    assert np.abs(one - other).max() < 2e-5 * np.abs(one).max()


def test_each_batch_norm_leaves_a_bias():
  model, variables = trained("mobilenetv3_small")
  folded, weights = mnv3_jax.fold_batch_norm(model, variables)
  norms = sum(path[-1].key == "mean" for path, _ in jax.tree_util.tree_leaves_with_path(variables))
  channels = sum(x.size for x in jax.tree.leaves(variables["batch_stats"])) // 2
  # scale and bias were parameters
  assert sum(x.size for x in jax.tree.leaves(weights["params"])) == cost.params(model.net) - channels
  assert len(jax.tree.leaves(weights["params"])) == len(jax.tree.leaves(variables["params"])) - norms
  assert not jax.tree.leaves(weights["batch_stats"])
  again, same = mnv3_jax.fold_batch_norm(folded, weights)
  assert again is folded and same is weights


def test_the_features_and_bfloat16():
  model, variables = trained("mobilenetv3_small", dtype="bfloat16")
  folded, weights = mnv3_jax.fold_batch_norm(model, variables)
  expected = model.apply(variables, images(), method="features")
  found = folded.apply(weights, images(), method="features")
  assert found.keys() == expected.keys() and all(x.dtype == jnp.bfloat16 for x in found.values())
  assert np.abs(found["stem"] - expected["stem"]).max() < 0.02 * np.abs(expected["stem"]).max()


def test_a_quantized_network_keeps_its_ranges():
  model, variables = trained("mobilenetv3_small", quantize=True)
  variables = jax.tree_util.tree_map_with_path(
    lambda path, x: {"low": np.float32(-6), "high": np.float32(6)}.get(path[-1].key, x), variables
  )
  folded, weights = mnv3_jax.fold_batch_norm(model, variables)
  assert {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(weights["batch_stats"])} == {"low", "high"}
  expected, found = (jax.jit(m.apply)(v, images()) for m, v in ((model, variables), (folded, weights)))
  # a value that lies between two of 8 bits may be rounded to the other
  assert np.abs(expected - found).max() < 0.05 * np.abs(expected).max()


def test_training_is_refused():
  folded, weights = mnv3_jax.fold_batch_norm(*trained("mobilenetv3_small"))
  with pytest.raises(ValueError, match="invalid train=True at backbone/stem; a network with folded batch norm is"):
    folded.apply(weights, images(), train=True, rngs={"dropout": jax.random.key(0)})


def test_another_module_is_refused():
  with pytest.raises(TypeError, match="invalid model of type Dense; expected a network of create_model or of a run"):
    mnv3_jax.fold_batch_norm(nn.Dense(3), {})
