"""The module that is built is the network that was described."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_architecture
from tiny_network import universal_network

from mnv3_jax.architectures import cost, edits, fields, zoo
from mnv3_jax.models.activations import FUNCTIONS
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import BatchNorm, Compute

VARIANTS = [
  {},
  {"width": 0.35},
  {"width": 1.25, "width_rule": "torchvision"},
  {"h_swish_from": 112, "se_ratio": 0},
  {"last_stage": "original", "stem_filters": 32, "se_of": "input"},
  {"minimalistic": True, "num_classes": 7},
]


def leaves(tree):
  return {"/".join(k.key for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def shapes(architecture, compute=Compute()):
  x = jax.ShapeDtypeStruct((1, architecture.resolution, architecture.resolution, 3), jnp.float32)
  return jax.eval_shape(Classifier(architecture, compute).init, jax.random.key(0), x)


PAIRS = [(model, {}) for model in zoo.MODELS]
PAIRS += [(model, variant) for model in ("mobilenetv3_large", "mobilenetv3_small") for variant in VARIANTS[1:]]
PAIRS += [
  ("mobilenetv1", {"width": 0.25}),
  ("mobilenetv2", {"width": 1.4, "halved_tail": "segmentation"}),
  ("mnasnet_a1", {"last_stage": "efficient", "se_of": "expansion", "se_divisor": 8}),
]


@pytest.mark.parametrize(("model", "variant"), PAIRS, ids=lambda v: v if isinstance(v, str) else ",".join(v) or "paper")
def test_the_module_has_the_layers_and_parameters_of_the_value(model, variant):
  a = fields.architecture(model, **variant)
  found = leaves(shapes(a)["params"])
  assert sum(leaf.size for leaf in found.values()) == cost.params(a)
  kernels = {
    name.removesuffix("/kernel").removeprefix("backbone/"): leaf for name, leaf in found.items() if name.endswith("kernel")
  }
  layers = {layer.name: layer for layer in cost.layers(a)}
  assert set(kernels) == set(layers)
  assert all(kernels[name].size == layers[name].weights for name in layers)


def run(architecture, compute=Compute(), train=False, x=None, variables=None):
  variables = variables or initialize(Classifier(architecture), 0)
  rng = np.random.default_rng(0)
  x = rng.uniform(-1, 1, (4, architecture.resolution, architecture.resolution, 3)).astype(np.float32) if x is None else x
  model = Classifier(architecture, compute)
  if not train:
    return jax.jit(model.apply)(variables, x)
  return jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}))(
    variables, x
  )


def lively(architecture):
  """Variables whose signal reaches the logits: statistics of a batch."""
  variables = initialize(Classifier(architecture), 0)
  _, changed = run(architecture.replace(bn_momentum=0.0), train=True)
  return {**variables, **changed}


@pytest.mark.parametrize("frozen", [(), ("hidden",)])
def test_batch_norm_of_the_hidden_layer_is_trained_but_where_frozen(frozen, tiny):
  net = tiny.replace(head=dataclasses.replace(tiny.head, hidden_norm=True))
  variables = initialize(Classifier(net), 0)
  assert variables["params"]["hidden"].keys() == {"kernel", "bn"}
  _, changed = run(net, Compute(frozen=frozen), train=True, variables=variables)
  moved = changed["batch_stats"]["hidden"]["bn"]["mean"]
  assert np.any(np.asarray(moved) != 0) != bool(frozen)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "symmetric", "keras_v1"])
def test_formulations_of_universal_and_fused_blocks_agree(padding):
  net = universal_network().replace(padding=padding, resolution=33)
  variables = lively(net)
  fast, plain = (run(net, Compute(formulation=f), variables=variables) for f in ("auto", "plain"))
  assert np.abs(plain).max() > 0.01
  np.testing.assert_allclose(fast, plain, atol=2e-6)
  maps = jax.eval_shape(lambda v, x: Classifier(net).apply(v, x, method="features"), variables, jnp.zeros((1, 33, 33, 3)))
  found = {layer.name: layer for layer in cost.layers(net) if layer.name in maps}
  assert len(found) == 13 and all(maps[name].shape[1] == layer.out_size for name, layer in found.items())


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_fast_and_plain_formulations_agree(padding):
  a = tiny_architecture(padding=padding)
  variables = lively(a)
  fast, plain = (run(a, Compute(formulation=f), variables=variables) for f in ("auto", "plain"))
  assert np.abs(plain).max() > 0.01
  np.testing.assert_allclose(fast, plain, atol=1e-6)


def test_padding_is_a_choice_that_matters(tiny):
  variables = lively(tiny)
  same, symmetric = (run(tiny.replace(padding=p), variables=variables) for p in ("same", "symmetric"))
  assert np.abs(same - symmetric).max() > 1e-3


def test_the_same_weights_take_any_resolution(tiny):
  assert run(tiny.replace(resolution=23), variables=initialize(Classifier(tiny), 0)).shape == (4, 10)


@pytest.mark.slow
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(tiny):
  variables = lively(tiny)
  model = Classifier(tiny, Compute(dtype="bfloat16"))
  x = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
  maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
  assert {m.dtype for m in maps.values()} == {jnp.dtype("bfloat16")}
  logits, changed = run(tiny, Compute(dtype="bfloat16"), train=True, variables=variables)
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(changed)} == {jnp.dtype("float32")}
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes(tiny, Compute(dtype="bfloat16")))} == {jnp.dtype("float32")}
  exact, close = run(tiny, variables=variables), run(tiny, Compute(dtype="bfloat16"), variables=variables)
  assert 0 < np.abs(close - exact).max() < 0.05 * max(np.abs(exact).max(), 1)


def test_features_have_the_papers_names():
  a = zoo.mobilenetv3_large()
  x = jax.ShapeDtypeStruct((1, 320, 320, 3), jnp.float32)
  maps = jax.eval_shape(lambda v, x: Classifier(a).apply(v, x, method="features"), shapes(a), x)
  # section 6.3: C4 is the expansion of the 13th bottleneck, C5 the layer before the pool
  assert maps["C4"].shape == maps["block_13/expand"].shape == (1, 20, 20, 672)
  assert maps["C5"].shape == maps["features"].shape == (1, 10, 10, 960)
  # section 6.4: the skip of LR-ASPP is a depthwise output at stride 8, before squeeze-excite
  assert maps["block_06/depthwise"].shape == (1, 40, 40, 120)
  assert maps["C1"].shape[1:3] == (160, 160) and maps["C3"].shape == (1, 40, 40, 240)


@pytest.mark.slow
def test_depthwise_feature_is_before_squeeze_excite(tiny):
  """Zeroing the gate kills the block's output but not its depthwise feature."""
  variables = lively(tiny)
  gate = variables["params"]["backbone"]["block_02"]["se"]["expand"]
  gate["kernel"], gate["bias"] = np.zeros_like(gate["kernel"]), np.full_like(gate["bias"], -10)
  x = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
  maps = Classifier(tiny).apply(variables, x, method="features")
  project = variables["params"]["backbone"]["block_02"]["project"]["bn"]
  mean, var = (variables["batch_stats"]["backbone"]["block_02"]["project"]["bn"][k] for k in ("mean", "var"))
  constant = (0 - mean) * project["scale"] / np.sqrt(var + 1e-3) + project["bias"]
  np.testing.assert_allclose(maps["block_02"], np.broadcast_to(constant, maps["block_02"].shape), atol=1e-5)
  assert np.abs(maps["block_02/depthwise"]).max() > 0.1


@pytest.mark.slow
def test_dropout_is_before_the_logits(tiny):
  """With everything else fixed, what dropout zeroes is exactly scaled by 1 / (1 - rate)."""
  variables = lively(tiny)
  variables["params"]["logits"] = {"kernel": np.eye(16, 10, dtype=np.float32), "bias": np.zeros(10, np.float32)}
  half, none = (
    run(tiny.replace(head=dataclasses.replace(tiny.head, dropout=rate)), train=True, variables=variables)[0]
    for rate in (0.5, 0.0)
  )
  kept = np.asarray(half) != 0
  assert 0.2 < kept.mean() < 0.8
  np.testing.assert_allclose(half[kept], 2 * none[kept], rtol=1e-5)


def batch_norm(group, x, momentum=0.9):
  norm = BatchNorm(momentum, 1e-3, group=group)
  variables = norm.init(jax.random.key(0), x, False)
  y, changed = norm.apply(variables, x, True, mutable=["batch_stats"])
  return y, changed["batch_stats"]


def test_batch_norm_by_hand():
  x = np.random.default_rng(0).normal(3, 2, (6, 4, 4, 5)).astype(np.float32)
  y, statistics = batch_norm(0, x)
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-3), atol=1e-4)
  np.testing.assert_allclose(statistics["mean"], 0.1 * mean, rtol=1e-4)
  np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * var, rtol=1e-4)


def test_batch_norm_in_groups_is_batch_norm_of_each_group():
  x = np.random.default_rng(0).normal(size=(6, 4, 4, 5)).astype(np.float32)
  y, statistics = batch_norm(2, x)
  parts = [batch_norm(0, x[i : i + 2]) for i in (0, 2, 4)]
  np.testing.assert_allclose(y, np.concatenate([p[0] for p in parts]), atol=1e-5)
  np.testing.assert_allclose(statistics["var"], np.mean([p[1]["var"] for p in parts], 0), rtol=1e-5)
  with pytest.raises(ValueError, match="invalid bn_group=4; expected a divisor of the 6 images"):
    batch_norm(4, x)


@pytest.mark.parametrize(
  ("name", "x", "y"),
  [
    ("hard_swish", [-4, -3, 0, 1, 3, 5], [0, 0, 0, 4 / 6, 3, 5]),
    ("hard_sigmoid", [-4, -3, 0, 1, 3, 5], [0, 0, 0.5, 4 / 6, 1, 1]),
    ("relu6", [-1, 3, 8], [0, 3, 6]),
  ],
)
def test_activations(name, x, y):
  np.testing.assert_allclose(FUNCTIONS[name](jnp.array(x, jnp.float32)), y, atol=1e-6)


def test_initialisation_is_a_function_of_seed_and_name(tiny):
  first, again, other = (leaves(initialize(Classifier(tiny), seed)) for seed in (0, 0, 1))
  assert all(np.array_equal(first[k], again[k]) for k in first)
  assert not np.array_equal(first["params/logits/kernel"], other["params/logits/kernel"])
  edited = leaves(initialize(Classifier(edits.with_se(tiny, ratio=0)), 0))
  assert all(np.array_equal(first[k], edited[k]) for k in edited) and len(edited) < len(first)


def test_kernels_are_the_authors_normal_cut_at_two_deviations():
  kernel = initialize(Classifier(zoo.mobilenetv3_small()), 3)["params"]["hidden"]["kernel"]
  assert np.abs(kernel).max() <= 0.18 and kernel.dtype == np.float32
  # 0.88: the deviation of a normal cut at two deviations
  assert abs(kernel.std() - 0.09 * 0.8796) < 2e-4 and abs(kernel.mean()) < 5e-4
