"""Gates of h-swish as depthwise convolutions: the same function, with channels that can be equalized."""

import numpy as np
import pytest
from conftest import tiny_architecture

from mnv3_jax.export import graph, quantize, tflite as exporting
from mnv3_jax.export.calibration import largest_by_channel
from mnv3_jax.export.equalization import equalize, groups
from mnv3_jax.export.float_graph import FloatGraph
from mnv3_jax.export.gates import with_depthwise_gates
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.export.runtime import TFLiteModel


@pytest.fixture(scope="module")
def odd_stem():
  """A float file with h-swish in parts, one channel of whose stem is far larger than the others and read little; and images."""
  a = tiny_architecture()
  variables, images = random_weights(a, num_images=6)
  content = exporting.convert_float(a, variables, fused=False)
  g = FloatGraph(content)
  stem, reader = g.steps[0], next(step for step in g.steps if step.type == "DEPTHWISE_CONV_2D")
  odd = np.arange(g.shapes[stem.output][-1]) == 3
  g.replace(stem.kernel, g.constant(stem.kernel) * np.where(odd, 1.0, 0.1)[:, None, None, None])
  g.replace(reader.kernel, g.constant(reader.kernel) * np.where(odd, 0.01, 10.0))
  return g.content(), [x[None] for x in images]


def outputs(content, images):
  model = TFLiteModel(content)
  return np.concatenate([model(x) for x in images])


def sums(content):
  return {operator.output for operator in graph.operators(content) if quantize._is_gate_of_the_stem(operator)}


def snr_db(found, expected):
  return 10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum())


def test_it_is_the_same_function_of_the_same_rows(odd_stem):
  content, images = odd_stem
  found = with_depthwise_gates(content, sums(content))
  assert len(sums(content)) == 1 and not sums(found)
  np.testing.assert_array_equal(outputs(found, images), outputs(content, images))
  before, after = graph.operators(content), graph.operators(found)
  assert [operator.row for operator in before] == [operator.row for operator in after]
  assert [(b.type, a.type) for b, a in zip(before, after, strict=True) if b.type != a.type] == [("ADD", "DEPTHWISE_CONV_2D")]


def test_channels_of_the_stem_are_equalized(odd_stem):
  content, images = odd_stem
  found = with_depthwise_gates(content, sums(content))
  g = FloatGraph(found)
  stem = g.steps[0].output
  maps = next(group for group in groups(g) if stem in group)
  before = largest_by_channel(g, images, maps)
  equalize(g, before)
  after = largest_by_channel(g, images, maps)
  assert after[stem].max() / np.median(after[stem]) < 0.5 * before[stem].max() / np.median(before[stem])
  assert snr_db(outputs(g.content(), images), outputs(content, images)) > 70


def test_without_gates_the_stem_keeps_its_channels(odd_stem):
  g = FloatGraph(odd_stem[0])
  assert g.steps[0].output not in set().union(*groups(g))


def test_8_bits_lose_less(odd_stem, monkeypatch):
  content, images = odd_stem
  expected = outputs(content, images)

  def loss_db():
    file = TFLiteModel(quantize.quantize(content, "int8_integer", images))
    return snr_db(np.concatenate([file(x) for x in images]), expected)

  with_gates = loss_db()
  monkeypatch.setattr(quantize, "_is_gate_of_the_stem", lambda operator: False)
  assert with_gates > loss_db() + 6
