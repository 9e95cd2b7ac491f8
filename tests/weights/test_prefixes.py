"""The network among the tensors of a file: under any prefix, averaged weights first, only with values that mean something."""

import itertools

import numpy as np
import pytest
import seeds

from mnv3_jax.errors import UsageError
from mnv3_jax.weights import sources
from mnv3_jax.weights.prefixes import without_prefix

SOURCE, MODEL = "timm", "mobilenetv3_small_050"
NETWORK = {"conv.weight": np.ones(3), "bn.weight": np.full(3, 2.0), "bn.running_var": np.full(3, 3.0)}
OTHER = {name: -a for name, a in NETWORK.items()}


def prefixed(prefix, tensors=NETWORK):
  return {prefix + name: a for name, a in tensors.items()}


def same(found, expected=NETWORK):
  return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_prefixes_in_every_order(n):
  for words in itertools.product(("module.", "_orig_mod.", "model.", "state_dict."), repeat=n):
    assert same(without_prefix(prefixed("".join(words)), NETWORK))


@pytest.mark.parametrize(
  "tensors",
  [
    {**prefixed("state_dict.", OTHER), **prefixed("state_dict_ema.")},
    {**prefixed("model.module.", OTHER), **prefixed("model_ema.module."), "model_ema.n_averaged": np.array(5)},
    {**prefixed("model.", OTHER), **prefixed("swa_model.module."), "swa_model.n_averaged": np.array(5)},
    {**prefixed("a.", OTHER), **prefixed("b.module."), "b.n_averaged": np.array(5)},
    {**prefixed("", OTHER), **prefixed("ema.")},
    {**prefixed("ema.model.module._orig_mod."), **prefixed("model.module._orig_mod.", OTHER)},
  ],
)
def test_averaged_weights_are_preferred(tensors):
  assert same(without_prefix(tensors, NETWORK))
  assert same(without_prefix(dict(reversed(tensors.items())), NETWORK))


def test_what_is_beside_the_network_is_left_out_and_what_is_in_it_is_not():
  beside = {"optimizer.state.0.exp_avg": np.ones(3), "criterion.weight": np.ones(2)}
  assert same(without_prefix({**prefixed("model."), **beside}, NETWORK))
  more = {**prefixed("model."), "model.head.weight": np.ones(2)}
  assert set(without_prefix(more, NETWORK)) == {*NETWORK, "head.weight"}
  assert without_prefix(beside, NETWORK) == beside


def test_two_networks_are_not_chosen_from():
  assert same(without_prefix({**prefixed("a."), **prefixed("b.")}, NETWORK))
  with pytest.raises(UsageError, match=r"2 times, as a\.\*, b\.\*; expected one"):
    without_prefix({**prefixed("a."), **prefixed("b.", OTHER)}, NETWORK)


@pytest.fixture(scope="module")
def weights():
  return seeds.tensors(sources.published(SOURCE, MODEL))


@pytest.mark.parametrize("prefix", ["", "module._orig_mod."])
@pytest.mark.parametrize(
  ("name", "value", "words"),
  [
    ("conv_stem.weight", np.nan, r"not finite: conv_stem.weight \(1 of 432 values, NaN\)"),
    ("conv_stem.weight", -np.inf, r"not finite: conv_stem.weight \(1 of 432 values\)"),
    ("bn1.running_var", -1.0, r"variances below 0: bn1.running_var \(1 of 16 values\)"),
  ],
)
def test_values_that_mean_nothing_are_named(prefix, name, value, words, weights):
  broken = weights[name].copy()
  broken.flat[-1] = value
  with pytest.raises(UsageError, match=words) as refused:
    sources.variables(SOURCE, MODEL, prefixed(prefix, {**weights, name: broken}), "w.npz")
  assert "seems to be" not in str(refused.value)


def test_another_network_in_a_wrapper_is_recognized(weights):
  with pytest.raises(UsageError, match=f"it seems to be source='timm', model='{MODEL}'"):
    sources.variables("torchvision", "mobilenet_v2", prefixed("model.module.", weights), "w.npz")


def test_names_out_of_a_file_are_shown_on_one_line(weights):
  odd = {"a\n\x1b[31m": np.ones(2), "b" * 10_000: np.ones(2)}
  with pytest.raises(UsageError, match=r"2 are left over \('a\\n\\x1b\[31m', b{77}\.\.\.\)"):
    sources.variables(SOURCE, MODEL, {**weights, **odd}, "w.npz")


@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.float64])
def test_other_types_and_layouts(dtype, weights):
  found = sources.variables(SOURCE, MODEL, {k: np.asfortranarray(a.astype(dtype)) for k, a in weights.items()}, "w.npz")[2]
  kernel = found["params"]["logits"]["kernel"]
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel, weights["classifier.weight"].astype(dtype).astype(np.float32).T)
