"""Files with one and with several outputs in the runtime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnv3_jax.errors import UsageError
from mnv3_jax.export.converter import convert
from mnv3_jax.export.runtime import TFLiteModel

INPUT = jax.ShapeDtypeStruct((1, 4, 6, 3), jnp.float32)


def two(x):
  return {"mean": x.mean((1, 2)), "twice": 2 * x}


def test_one_output_is_an_array():
  model = TFLiteModel(convert(lambda x: two(x)["mean"], INPUT))
  x = np.random.default_rng(0).random((5, 4, 6, 3), np.float32)
  assert model.input_shape == (1, 4, 6, 3) and model.output_shape == (1, 3) and model.output_shapes == ((1, 3),)
  assert model.output_names == ("output",)
  np.testing.assert_allclose(model(x[:1]), x[:1].mean((1, 2)), rtol=1e-6)
  np.testing.assert_allclose(model.run_all(x), x.mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("names, expected", [(None, ("output_0", "output_1")), (("zebra", "ant"), ("zebra", "ant"))])
def test_several_outputs_are_a_tuple_in_the_order_of_the_file(names, expected):
  model = TFLiteModel(convert(two, INPUT, output_names=names))
  x = np.random.default_rng(0).random((5, 4, 6, 3), np.float32)
  assert model.output_shapes == ((1, 3), (1, 4, 6, 3)) and model.output_names == expected
  assert "(1, 4, 6, 3) -> " + expected[0] in repr(model)
  for found, want in ((model(x[:1]), two(x[:1])), (model.run_all(x), two(x)), (model.run_all(jnp.asarray(x)), two(x))):
    assert isinstance(found, tuple) and len(found) == 2
    np.testing.assert_allclose(found[0], want["mean"], rtol=1e-6)
    np.testing.assert_allclose(found[1], want["twice"], rtol=1e-6)
  with pytest.raises(ValueError):
    _ = model.output_shape


def test_a_wrong_number_of_names_is_refused():
  with pytest.raises(UsageError, match=r"invalid output_names=\['a'\]; expected 2 names"):
    convert(two, INPUT, output_names=["a"])
