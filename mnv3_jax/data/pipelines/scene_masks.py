"""The embedded scenes as training and evaluation of a segmenter see them."""

import dataclasses
import functools
import itertools

import numpy as np

from mnv3_jax.architectures import sizes
from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources.scenes import CLASSES, Scenes
from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.data.transforms.decoding import eight_bits, upright
from mnv3_jax.data.transforms.fit import fit


@dataclasses.dataclass(frozen=True, eq=False)
class SceneMasks:
  """Scenes and their masks: new ones in every epoch of training, always the same for a test.

  Attributes:
    train, test: the Scenes.
    resolution: of the batches, in pixels: a size of architectures/sizes.py.
    batch_size: scenes in a training batch over all hosts.
    seed: of the training scenes.
    host, hosts: which contiguous part of each batch this process makes.
    view: the range of the channels, [-1, 1] unless told.
    tests: how many test scenes are used, evenly from all of them; None for all.
  """

  train: Scenes
  test: Scenes
  resolution: object
  batch_size: int
  seed: int
  host: int = 0
  hosts: int = 1
  view: preprocessing.View = preprocessing.View()
  tests: int | None = None

  classes = CLASSES

  @property
  def fingerprint(self):
    """What the scenes are; part of the package, they do not change."""
    return f"{len(self.train)} scenes an epoch; tested on {len(self._tested)} scenes"

  @functools.cached_property
  def order(self):
    """Which scenes a step sees."""
    return Order(len(self.train), self.batch_size, self.seed, self.host, self.hosts)

  @property
  def steps_per_epoch(self):
    """Whole batches in the scenes of an epoch."""
    return self.order.steps_per_epoch

  @property
  def _tested(self):
    n = len(self.test) if self.tests is None else min(self.tests, len(self.test))
    return np.linspace(0, len(self.test) - 1, n).round().astype(int)

  def train_batches(self, start):
    """Batches from step `start` on, for ever: {"image": (b, h, w, 3) float32, "label": (b, h, w) int32}.

    b is batch_size / hosts.
    """
    for step in itertools.count(start):
      epoch, chosen = self.order.step(step)
      yield self._shown([self.train.scene(i, self.seed, epoch) for i in chosen])

  def eval_batches(self, batch_size):
    """Every test scene once: batches of `batch_size` / hosts scenes with "mask" 1, filled up with "mask" 0."""
    share, tested = batch_size // self.hosts, self._tested
    for at in range(0, len(tested), batch_size):
      chosen = np.arange(at + self.host * share, at + (self.host + 1) * share)
      real = chosen < len(tested)
      scenes = [self.test.scene(tested[i]) for i in np.where(real, chosen, 0)]
      yield {**self._shown(scenes), "mask": real.astype(np.float32)}

  def only(self, i):
    """The same with one training scene: batch after batch is another epoch's."""
    one = dataclasses.replace(self.train, only=int(self.train.numbers[i]))
    return dataclasses.replace(self, train=one, batch_size=1, host=0, hosts=1)

  def tested_on_training(self, n):
    """The same with `n` scenes of training photos in the place of the test scenes."""
    return dataclasses.replace(self, test=self.train, tests=n)

  def fewer_tests(self, n):
    """The same with at most `n` test scenes, evenly from all of them."""
    return dataclasses.replace(self, tests=n if self.tests is None else min(n, self.tests))

  def prepare(self, image):
    """A PIL image of any size and mode as the scenes are shown: (h, w, 3) float32; see fit for its place."""
    colour = fit(eight_bits(upright(image)).convert("RGB"), sizes.sides(self.resolution), (128, 128, 128))
    return self.view.normalised(np.asarray(colour, np.float32))

  def _shown(self, scenes):
    return {
      "image": self.view.normalised(np.stack([s.image for s in scenes]).astype(np.float32)),
      "label": np.stack([s.mask for s in scenes]).astype(np.int32),
    }
