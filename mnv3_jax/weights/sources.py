"""Who publishes what: from a source's name for a network and a file to our variables."""

import dataclasses

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.weights import keras, mapping, slim, timm, torchvision

SOURCES = {"torchvision": torchvision.MODELS, "timm": timm.MODELS, "keras": keras.MODELS, "slim": slim.MODELS}


def published(source, model, **fields):
  """What a source publishes under a name.

  Args:
    source: a key of SOURCES.
    model: the network's name there.
    **fields: of config.model, where the file differs from what is published (Keras's alpha is `width`).

  Raises:
    UsageError: for an unknown source or model, naming the closest.
  """
  if source not in SOURCES:
    raise UsageError(f"no source is called {source!r}; {nearest(source, SOURCES)}")
  models = SOURCES[source]
  if model not in models:
    elsewhere = [s for s, others in SOURCES.items() if model in others]
    hint = f"--from {elsewhere[0]} has it" if elsewhere else nearest(model, models)
    raise UsageError(f"{source} has no network {model!r} that is known here; {hint}")
  found = models[model]
  return dataclasses.replace(found, model={**found.model, **fields})


def variables(source, model, file, what, **fields):
  """The variables in a file.

  Args:
    source, model, **fields: as for `published`.
    file: what formats.read gives.
    what: the file's name, for sentences.

  Returns:
    (Published, Architecture, variables).

  Raises:
    UsageError: naming what is missing, left over or of another shape, and what the file seems to be instead.
  """
  asked = published(source, model, **fields)
  tensors = _named(source, asked, file, what)
  try:
    return asked, *mapping.to_ours(asked, tensors, f"{what!r} is not {source}'s {model}")
  except UsageError as error:
    seems = [f"--from {s} --model {m}" for s, m in _candidates(file, tensors) if (s, m) != (source, model)]
    raise UsageError(f"{error}; it seems to be {seems[0]}" if seems else str(error)) from None


def _named(source, asked, file, what):
  is_keras = not isinstance(file, dict)
  if is_keras != (source == "keras"):
    raise UsageError(
      f"{what!r} is {'a' if is_keras else 'no'} Keras file; --from {source} takes {'others' if is_keras else '.h5 or .keras'}"
    )
  if is_keras:
    return keras.tensors(file, asked)
  return slim.averaged(file) if source == "slim" else file


def _candidates(file, tensors):
  """(source, model) of every published network that these tensors are."""
  for source, models in SOURCES.items():
    if (source == "keras") == isinstance(file, dict):
      continue
    for model, other in models.items():
      if mapping.fits(other, tensors):
        yield source, model
