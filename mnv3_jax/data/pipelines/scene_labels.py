"""Pipeline of the embedded scenes for classification."""

import dataclasses

import numpy as np
from jaxtyping import Int

from mnv3_jax.data.facts import Facts
from mnv3_jax.data.pipelines.scene_dataset import LabelledScenes
from mnv3_jax.data.sources.fashion_mnist import CLASSES
from mnv3_jax.data.sources.scenes import Scene


@dataclasses.dataclass(frozen=True, eq=False)
class SceneLabels(LabelledScenes):
  """Dataset of scenes of one item and its class."""

  @property
  def classes(self) -> tuple[str, ...]:
    """See Dataset.classes."""
    return CLASSES

  @property
  def fingerprint(self) -> str:
    """See Dataset.fingerprint; the scenes are part of the package and do not change."""
    return f"{len(self.train)} scenes of one item an epoch; tested on {self.num_eval_examples} scenes"

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts; of training scenes, those of the first epoch."""
    facts, scene = self.scene_facts(i, training)
    return dataclasses.replace(facts, label=int(self.label(scene)))

  def label(self, scene: Scene) -> Int[np.ndarray, ""]:
    """Returns the class of the item, from 0."""
    (label,) = scene.labels - 1
    return np.asarray(label)
