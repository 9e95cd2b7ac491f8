"""What a notebook imports."""

import jax
import numpy as np
import pytest

import mnv3_jax
from mnv3_jax.architectures import zoo
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.errors import UsageError


def test_create():
  model, variables = mnv3_jax.create("mobilenetv3_small", num_classes=10, width=0.35, resolution=32)
  x = np.zeros((2, 32, 32, 3), np.float32)
  logits = jax.jit(model.apply)(variables, x)
  assert logits.shape == (2, 10)
  maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
  assert {"C1", "C2", "C3", "C4", "C5", "block_01/depthwise", "features"} <= set(maps)
  assert maps["C3"].shape[1:3] == (4, 4) and "bneck 5×5" in str(model.net)
  assert mnv3_jax.create("mobilenetv3_small", dtype="bfloat16")[0].compute.dtype == "bfloat16"
  other = mnv3_jax.create("mobilenetv3_small", num_classes=10, width=0.35, resolution=32, seed=1)[1]
  assert (other["params"]["logits"]["kernel"] != variables["params"]["logits"]["kernel"]).any()


def test_list_models():
  assert mnv3_jax.list_models()[:2] == ["mobilenetv3_large", "mobilenetv3_small"]
  assert set(mnv3_jax.list_models()) == set(zoo.MODELS)


def test_unknown_names_have_a_closest():
  with pytest.raises(ArchitectureError, match="did you mean 'mobilenetv2'"):
    mnv3_jax.create("mobilenetv22")
  with pytest.raises(ArchitectureError, match="did you mean 'width'"):
    mnv3_jax.create("mobilenetv2", widht=0.5)
  with pytest.raises(UsageError, match="no directory"):
    mnv3_jax.load("/nowhere")
  with pytest.raises(UsageError, match="no weights are called 'EMA'"):
    mnv3_jax.load("/nowhere", weights="EMA")
