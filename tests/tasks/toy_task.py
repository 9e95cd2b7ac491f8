"""Toy task outside the package: regression of the position of a scene's items.

It is added by this file alone: a head, its module, a task and its data set.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mnv3_jax.architectures import fields, heads, sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data import image_mask_datasets
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.models import inference, network
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.classifier import Dense
from mnv3_jax.models.layers import Compute
from mnv3_jax.tasks import base, job
from mnv3_jax.tasks.agreement import Agreement


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionHead:
  """Average pool, then two numbers."""

  name = "position"
  task = "position"

  def validate(self, row, architecture):
    pass

  def layers(self, architecture, size, channels):
    pool = heads.HeadLayer(
      name="pool", kind="pool", in_size=size, out_size=1, in_channels=channels, out_channels=channels, window=sizes.sides(size)
    )
    position = heads.HeadLayer(
      name="position", kind="fc", in_size=1, out_size=1, in_channels=channels, out_channels=2, norm=False
    )
    return pool, position

  def output_shape(self, architecture):
    return (2,)

  def __str__(self):
    return self.name


class PositionNetwork(nn.Module):
  """Network with two outputs, so that nothing may assume an array of logits."""

  net: Architecture
  compute: Compute = Compute()

  def setup(self):
    self.backbone = Backbone(self.net, self.compute)
    self.position = Dense(self.compute, 2)

  def features(self, x_bhwc, train=False):
    return self.backbone(x_bhwc, train)

  def __call__(self, x_bhwc, train=False):
    x = self.features(x_bhwc, train)["features"].mean((1, 2))
    return {"position": nn.sigmoid(self.position(x)), "energy": jnp.abs(x).mean(-1)}


class Positions:
  """Scenes whose label is the centre of all items, from 0 to 1 along each side."""

  def __init__(self, real):
    self.real = real
    self.classes = ()

  def __getattr__(self, name):
    return getattr(self.real, name)

  def limit_eval(self, n):
    return Positions(self.real.limit_eval(n))

  def eval_on_train(self, n):
    return Positions(self.real.eval_on_train(n))

  def train_batches(self, start):
    return map(self._labelled, self.real.train_batches(start))

  def eval_batches(self, batch_size):
    return map(self._labelled, self.real.eval_batches(batch_size))

  @staticmethod
  def _labelled(batch):
    masks = np.asarray(batch["label"]) > 0
    sides = masks.shape[1:]
    centres = [(np.argwhere(m).mean(0) + 0.5) / sides if m.any() else np.full(2, 0.5) for m in masks]
    return {**batch, "label": np.array(centres, np.float32)}


Dataset.register(Positions)


class Comparison:
  """Agreement: the largest difference of a position."""

  def __init__(self):
    self.images, self.difference, self.energy = 0, 0.0, 0.0

  def add(self, expected, found):
    position, energy = found
    self.images += len(position)
    self.difference = max(self.difference, float(np.abs(position - expected["position"]).max()))
    np.testing.assert_allclose(energy, expected["energy"], rtol=1e-3)

  def agreement(self):
    return Agreement(self.images, self.difference, 1.0, 100.0, 1.0)


@dataclasses.dataclass
class PositionPrediction:
  image: str
  position: np.ndarray

  def to_dict(self):
    return {"image": self.image, "position": self.position.tolist()}

  def lines(self):
    return [self.image, "  {:.2f} down, {:.2f} across".format(*self.position)]

  def draw(self, path):
    raise AssertionError("nothing asks for it")


@dataclasses.dataclass(frozen=True)
class Position(base.Task):
  """Regression with mean squared error; main metric: share of scenes whose position is right to a tenth of each side."""

  name = "position"
  main_metric = "near"
  metric_label = "near"
  datasets = ("positions",)

  @classmethod
  def from_config(cls, config, architecture, classes):
    return cls()

  @classmethod
  def open_dataset(cls, config, resolution, *, host=0, hosts=1):
    scenes = config.copy_and_resolve_references()
    scenes.data.dataset = "scenes"
    return Positions(image_mask_datasets.open_dataset(scenes, resolution, host=host, hosts=hosts))

  @classmethod
  def class_names(cls, config):
    return ()

  def fake_batch(self, n, resolution, num_classes, rng):
    return {"image": rng.random((n, *sizes.sides(resolution), 3), np.float32), "label": rng.random((n, 2), np.float32)}

  def loss(self, outputs, batch):
    return jnp.square(outputs["position"] - batch["label"]).mean()

  def sums(self, outputs, batch):
    mask = batch.get("mask", jnp.ones(len(batch["label"])))
    off = jnp.abs(outputs["position"] - batch["label"]).max(-1)
    return {"loss": (mask * off).sum(), "near": (mask * (off < 0.1)).sum(), "count": mask.sum()}

  def metrics(self, sums):
    return {name: sums[name] / sums["count"] for name in ("loss", "near")} | {"count": int(sums["count"])}

  def lines(self, metrics):
    return [f"near {metrics['near']:.4f}"]

  def predict_images(self, run, images, **options):
    self.check_options(options, ())
    x = np.stack([run.dataset.preprocess(image) for image in images.values()])
    found = inference.outputs(run.model, run.variables, x)["position"]
    return [PositionPrediction(image, position) for image, position in zip(images, found, strict=True)]

  @classmethod
  def export_outputs(cls, architecture, quantization="none", **options):
    cls().check_options(options, ())
    position = {"shape": [1, 2], "type": "float32", "meaning": "position"}
    return base.OutputSpec(
      transform=lambda outputs: (outputs["position"], outputs["energy"]),
      tensors=(position, {"shape": [1], "type": "float32", "meaning": "energy"}),
      decode=lambda found: {"position": found[0], "energy": found[1]},
      comparison=Comparison,
    )

  def report(self, run, file, on_skipped=print):
    raise AssertionError("nothing asks for it")


def register(monkeypatch):
  """Registers the task until the end of a test."""
  monkeypatch.setitem(heads.HEADS, "position", PositionHead)
  monkeypatch.setitem(fields.FIELDS, "head", dataclasses.replace(fields.FIELDS["head"], choices=tuple(heads.HEADS)))
  monkeypatch.setitem(network.MODULES, PositionHead, PositionNetwork)
  monkeypatch.setitem(job.TASKS, "position", Position)
