"""Backbones alone, and stems for other numbers of input channels."""

import jax
import numpy as np
import pytest

import mnv3_jax
from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.validation import ArchitectureError
from mnv3_jax.models.feature_maps import FeatureMaps, with_input_channels

SIZE = {"resolution": 64, "width": 0.35}


@pytest.mark.parametrize("name", ["mobilenetv3_large", "mobilenetv3_small", "mobilenetv2", "mobilenetv1", "mnasnet_a1"])
def test_maps_have_the_strides_and_channels_that_are_told(name):
  model, variables = mnv3_jax.create_model(name, features_only=True, **SIZE)
  assert isinstance(model, FeatureMaps) and model.strides == (2, 4, 8, 16, 32)
  maps = jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((2, 64, 96, 3), np.float32))
  assert [x.shape for x in maps] == [(2, 64 // s, 96 // s, c) for s, c in zip(model.strides, model.channels, strict=True)]


def test_maps_are_those_of_the_whole_network():
  model, variables = mnv3_jax.create_model("mobilenetv3_small", features_only=True, seed=3, **SIZE)
  whole, all_variables = mnv3_jax.create_model("mobilenetv3_small", seed=3, **SIZE)
  x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
  expected = whole.apply(all_variables, x, method="features")
  for level, found in enumerate(model.apply(variables, x), 1):
    np.testing.assert_array_equal(found, expected[f"C{level}"])


def test_a_larger_last_map_has_fewer_strides():
  model, _ = mnv3_jax.create_model("mobilenetv3_small", features_only=True, output_stride=16, **SIZE)
  assert model.strides == (2, 4, 8, 16) and len(model.channels) == 4


def test_grey_images_have_the_outputs_of_three_equal_channels():
  model, variables = mnv3_jax.create_model("mobilenetv3_small", features_only=True, **SIZE)
  grey, own = mnv3_jax.create_model("mobilenetv3_small", features_only=True, in_channels=1, **SIZE)
  stem = np.asarray(variables["params"]["backbone"]["stem"]["kernel"])
  assert own["params"]["backbone"]["stem"]["kernel"].shape == with_input_channels(stem, 1).shape
  x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 1)).astype(np.float32)
  adapted = jax.tree.map(np.asarray, variables)
  adapted["params"]["backbone"]["stem"]["kernel"] = with_input_channels(stem, 1)
  for found, expected in zip(grey.apply(adapted, x), model.apply(variables, np.repeat(x, 3, -1)), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
def test_constant_images_have_the_same_outputs_for_multiples(channels):
  kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
  found = with_input_channels(kernel, channels)
  assert found.shape == (3, 3, channels, 8) and found.dtype == np.float32
  if channels % 3 == 0 or channels == 1:
    np.testing.assert_allclose(found.sum(2), kernel.sum(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "name, channels", [("mobilenetv3_small", 1024), ("mobilenetv2", 1280), ("mobilenetv4_conv_small", 1280)]
)
def test_without_classes_the_output_is_what_the_logits_are_computed_of(name, channels):
  model, variables = mnv3_jax.create_model(name, num_classes=0, resolution=64)
  whole, all_variables = mnv3_jax.create_model(name, num_classes=3, resolution=64)
  x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
  features = model.apply(variables, x)
  assert features.shape == (2, channels) and model.net.head.output_shape(model.net) == (channels,)
  assert cost.params(whole.net) - cost.params(model.net) == 3 * (channels + 1)
  logits = all_variables["params"].pop("logits")
  jax.tree.map(np.testing.assert_array_equal, variables["params"], all_variables["params"])
  expected = whole.apply({**all_variables, "params": {**all_variables["params"], "logits": logits}}, x)
  np.testing.assert_allclose(features @ logits["kernel"] + logits["bias"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["lr_aspp", "ssdlite"])
def test_other_heads_have_classes(head):
  with pytest.raises(ArchitectureError, match="invalid num_classes=0; expected a whole number of at least 1"):
    mnv3_jax.create_model("mobilenetv3_small", head=head, num_classes=0)


def test_a_file_without_classes_gives_features(tmp_path):
  net = fields.architecture("mobilenetv3_small", width=0.35, resolution=64, num_classes=0)
  exported = mnv3_jax.export(net, tmp_path / "features.tflite")
  assert exported.record["note"]["output"] == {"shape": [1, 1024], "type": "float32", "meaning": "features"}
