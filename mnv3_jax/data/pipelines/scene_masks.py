"""Pipeline of the embedded scenes for segmentation."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from mnv3_jax.data.facts import Facts, pixel_counts
from mnv3_jax.data.pipelines.scene_dataset import LabelledScenes
from mnv3_jax.data.sources.scenes import CLASSES, Scene


@dataclasses.dataclass(frozen=True, eq=False)
class SceneMasks(LabelledScenes):
  """Dataset of scenes and their masks."""

  @property
  def classes(self) -> tuple[str, ...]:
    """See Dataset.classes."""
    return CLASSES

  @property
  def fingerprint(self) -> str:
    """See Dataset.fingerprint; the scenes are part of the package and do not change."""
    return f"{len(self.train)} scenes an epoch; tested on {self.num_eval_examples} scenes"

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts; of training scenes, those of the first epoch."""
    facts, scene = self.scene_facts(i, training)
    return dataclasses.replace(facts, pixels=pixel_counts(scene.mask))

  def label(self, scene: Scene) -> UInt8[np.ndarray, "h w"]:
    """Returns the class of each pixel."""
    return scene.mask
