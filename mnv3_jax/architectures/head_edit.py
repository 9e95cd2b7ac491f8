"""The edit that gives a network a head for another task."""

import dataclasses
from typing import Any

from mnv3_jax.architectures.heads import HEADS, ClassifierHead, SSDLiteHead, classifier_head
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.validation import check_whole, fail, nearest


def with_head(
  architecture: Architecture,
  head: str,
  *,
  hidden: int | None = None,
  filters: int | None = None,
  pool: str | None = None,
  gate: str | None = None,
  gate_bias: bool | None = None,
  skip: str | None = None,
  convention: str | None = None,
  class_bias: float | None = None,
  dropout: float | None = None,
) -> Architecture:
  """Replaces a classifier's head, by name; the last of all edits.

  The rows after the map that the classifier pools are dropped, and so is the wide 1x1 convolution of an original last stage
  (V2, MnasNet) for segmentation: the paper's head for V2 stands on the 320 channels before it. F does not scale with the
  width, extra rows of ssdlite do.

  Args:
    architecture: with its width, output stride and halved tail.
    head: a key of heads.HEADS; "classifier" keeps the head, with other settings where there are any.
    hidden, filters, pool, gate, gate_bias, skip, convention, class_bias, dropout: settings of the head's class; None keeps its
      default. hidden=0 removes the hidden layer. The padding that belongs to a convention is set apart, as
      Architecture.padding.

  Raises:
    ArchitectureError: for a setting that is not possible or that the head does not have, or a network with another head.
  """
  if not isinstance(architecture.head, ClassifierHead):
    fail(architecture.name, "head", head, f"the network has {architecture.head.name} already")
  if head not in HEADS:
    fail(architecture.name, "head", head, nearest(head, HEADS))
  settings = {"filters": filters, "pool": pool, "gate": gate, "gate_bias": gate_bias, "skip": skip, "dropout": dropout}
  settings |= {"hidden": hidden, "convention": convention, "class_bias": class_bias}
  return _with_head(architecture, head, {name: value for name, value in settings.items() if value is not None})


def _with_head(architecture: Architecture, head: str, settings: dict[str, Any]) -> Architecture:
  """with_head() for settings that may be of any class in HEADS."""
  old = classifier_head(architecture, "head", head)
  known = {name: {field.name for field in dataclasses.fields(each)} for name, each in HEADS.items()}
  # where nothing is dropped, a rate of 0 changes nothing
  settings = {name: value for name, value in settings.items() if name in known[head] or (name, value) != ("dropout", 0)}
  for name, value in settings.items():
    if name not in known[head]:
      having = [other for other, names in known.items() if name in names]
      what = name if name == "dropout" else f"head_{name}"
      why = f"{head} has no {name}; {' and '.join(having)} {'has' if len(having) == 1 else 'have'} one"
      fail(architecture.name, what, value, why)
  if head == ClassifierHead.name:
    check_whole(architecture.name, "head_hidden", settings.get("hidden", 0), least=0)
    if settings.get("hidden") == 0:
      settings |= {"hidden": None, "hidden_norm": False}
    return architecture.replace(head=dataclasses.replace(old, **settings))
  stays = old.hidden is not None or head == SSDLiteHead.name
  features = architecture.features if stays else None
  return architecture.replace(features=features, head=HEADS[head](**settings))
