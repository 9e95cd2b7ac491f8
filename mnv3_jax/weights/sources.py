"""Registry of sources: a network by its name in a source, and its variables from a weight file."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.weights import keras, mapping, own, slim, tf_object_detection, timm, torchvision
from mnv3_jax.weights.content import Content, KerasLayers, Tensors
from mnv3_jax.weights.mapping import Published
from mnv3_jax.weights.prefixes import without_prefix
from mnv3_jax.weights.values import listed

SOURCES: dict[str, dict[str, Published]] = {
  "torchvision": torchvision.MODELS,
  "timm": timm.MODELS,
  "keras": keras.MODELS,
  "slim": slim.MODELS,
  "tf_object_detection": tf_object_detection.MODELS,
  own.SOURCE: own.MODELS,
}

# sources whose networks all have other tensors, so that a file tells which it is
BY_CONTENT = ("tf_object_detection",)


def published(source: str, model: str, **fields: Any) -> Published:
  """Returns a network of a source by its name there.

  Args:
    source: a key of SOURCES.
    model: the network's name there.
    **fields: fields of config.model in which the file differs from the published network (Keras's alpha is `width`).

  Raises:
    UsageError: for an unknown source or model, with the nearest one.
  """
  if source not in SOURCES:
    raise UsageError(f"invalid source={source!r}; {nearest(source, SOURCES)}")
  models = SOURCES[source]
  if model not in models:
    elsewhere = [s for s, others in SOURCES.items() if model in others]
    hint = f"source={elsewhere[0]!r} has it" if elsewhere else nearest(model, models)
    raise UsageError(f"invalid model={model!r} of source={source!r}; {hint}")
  found = models[model]
  return dataclasses.replace(found, model={**found.model, **fields})


def model_of(source: str, content: Content, file: str, **fields: Any) -> str:
  """Returns the name of the only network of a source that has the tensors of a file.

  Args:
    source, content, file, **fields: as for `variables`.

  Raises:
    UsageError: if none or several have them, such as networks with weights of several trainings; names these.
  """
  if source not in SOURCES:
    raise UsageError(f"invalid source={source!r}; {nearest(source, SOURCES)}")
  found = [m for m in SOURCES[source] if _fits(source, published(source, m, **fields), content)]
  if len(found) == 1:
    return found[0]
  has = f"has the tensors of {listed(map(repr, found))}" if found else "has the tensors of none of its networks"
  raise UsageError(f"invalid model=None for source={source!r}; expected the network's name: {file!r} {has}")


def variables(
  source: str, model: str, content: Content, file: str, **fields: Any
) -> tuple[Published, Architecture, dict[str, Any]]:
  """Converts the content of a weight file to variables.

  Args:
    source, model, **fields: as for `published`.
    content: result of formats.read.
    file: name of the file, for error messages.

  Returns:
    (Published as in the file, Architecture, variables).

  Raises:
    UsageError: if tensors are missing, left over or of another shape; names them, and the network that the file seems to be.
  """
  expected = published(source, model, **fields)
  tensors = _tensors(source, expected, content, file)
  try:
    return mapping.of_file(expected, tensors), *mapping.from_source(expected, tensors, f"{file!r} as {source}'s {model}")
  except UsageError as error:
    # where names and shapes are right, the values are not
    seems = [] if mapping.fits(expected, tensors) else [f"source={s!r}, model={m!r}" for s, m in _candidates(content, tensors)]
    raise UsageError(f"{error}; it seems to be {seems[0]}" if seems else str(error)) from None


def _tensors(source: str, expected: Published, content: Content, file: str) -> Tensors:
  """Returns the tensors of a file by name; raises UsageError if it is a Keras file for another source, or none for Keras."""
  if isinstance(content, KerasLayers):
    if source != "keras":
      raise UsageError(f"invalid file={file!r} for source={source!r}; expected no Keras file")
    return keras.tensors(content, expected)
  if source == "keras":
    raise UsageError(f"invalid file={file!r} for source='keras'; expected a Keras file (.h5, .keras)")
  if source == "tf_object_detection":
    tf_object_detection.check_input(expected, content, file)
  return _named(source, expected, content)


def _named(source: str, expected: Published, content: Tensors) -> Tensors:
  """Returns the tensors of a file among which a network of a source is, under its names there."""
  if source == "slim":
    content = slim.averaged(content)
  elif source == "tf_object_detection":
    content = tf_object_detection.weights(content)
  least = min((mapping.tensor_names(network) for network in (expected, *mapping.headless(expected))), key=len)
  return without_prefix(content, mapping.tensor_names(expected), len(least))


def _fits(source: str, expected: Published, content: Content) -> bool:
  """Tells whether a file has the tensors of a network of a source."""
  if isinstance(content, KerasLayers):
    return source == "keras" and mapping.fits(expected, keras.tensors(content, expected))
  return source != "keras" and mapping.fits(expected, _named(source, expected, content))


def _candidates(content: Content, tensors: Tensors) -> Iterator[tuple[str, str]]:
  """Yields (source, model) of every published network that has these tensors."""
  for source, models in SOURCES.items():
    if (source == "keras") != isinstance(content, KerasLayers):
      continue
    for model, other in models.items():
      if mapping.fits(other, tensors if source == "keras" else _named(source, other, tensors)):
        yield source, model
