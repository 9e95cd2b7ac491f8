"""Every recipe of configs/: its step and its evaluation, at their own sizes and types, are programs that JAX can make."""

import jax
import jax.numpy as jnp
import pytest
from conftest import NIGHTLY, ROOT

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.config_overrides import read_config
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.layers import AXIS
from mnv3_jax.models.network import network
from mnv3_jax.tasks import job
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.detection import Detection
from mnv3_jax.tasks.segmentation import Segmentation

RECIPES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
SEGMENTERS = ("cityscapes", "scenes_segmentation")
LIKE_OTHERS = ("cityscapes_80k.py", "cityscapes_deeplab.py", "coco_paddle.py")


def dense(recipe):
  return recipe.startswith(SEGMENTERS)


def mark(recipe, *words):
  return pytest.param(recipe, *words, marks=NIGHTLY if recipe in LIKE_OTHERS else ())


def build_task(config, net):
  if net.head.task == "detection":
    return Detection.from_config(config, net, ())
  return Segmentation(tuple(map(str, range(19)))) if net.head.task == "segmentation" else Classification()


def labels(net, size, *n):
  """Shapes of a batch's annotations."""
  if net.head.task == "detection":
    one = {"boxes": ((10, 4), jnp.float32), "label": ((10,), jnp.int32), "crowd": ((10,), jnp.bool_)}
    return {name: jax.ShapeDtypeStruct((*n, *shape), dtype) for name, (shape, dtype) in one.items()}
  return {"label": jax.ShapeDtypeStruct((*n, *(sizes.sides(size) if net.head.task == "segmentation" else ())), jnp.int32)}


@pytest.mark.slow
@pytest.mark.parametrize(
  ("recipe", "stride"),
  [
    *(mark(recipe, None) for recipe in RECIPES),
    *(pytest.param(r, 32, marks=NIGHTLY) for r in RECIPES if dense(r)),
  ],
)
def test_a_step_has_gradients_and_an_evaluation_logits(recipe, stride):
  """Nothing is computed: that takes a street, this takes seconds."""
  words = [f"--config.model.output_stride={stride}"] if stride else []
  config = read_config(str(ROOT / "configs" / recipe), words)
  net = fields.architecture(**config.model)
  net = net if config.model.num_classes else net.replace(num_classes=19)
  model = network(net, job.compute(config, net))
  task = build_task(config, net)

  def batch(size, *n):
    return {"image": jax.ShapeDtypeStruct((*n, *sizes.sides(size), 3), jnp.float32), **labels(net, size, *n)}

  def loss(params, statistics, batch):
    variables, rngs = {"params": params, "batch_stats": statistics}, {"dropout": jax.random.key(0)}
    logits, _ = model.apply(variables, batch["image"], train=True, mutable=["batch_stats"], rngs=rngs)
    return task.loss(logits, task.prepare(batch, AXIS))

  variables, data = shapes(model), config.data
  trained = sizes.from_sides(data.train_size, data.train_width or data.train_size) if data.train_size else net.resolution
  # one device, of which batch norm may have to be told, with as many images as it wants together
  n = max(config.model.bn_group or 0, 2)
  gradient_of = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, None, 0), axis_name=AXIS))
  gradient = jax.eval_shape(gradient_of, variables["params"], variables["batch_stats"], batch(trained, 1, n))
  assert jax.tree.map(lambda g: g.shape[1:], gradient) == jax.tree.map(lambda p: p.shape, variables["params"])
  logits = jax.eval_shape(jax.jit(model.apply), variables, batch(net.resolution, 2)["image"])
  if net.head.task == "detection":
    assert logits.codes.shape == (2, len(task.anchors), 4)
    logits = logits.logits
  # a detector's first slot is the background's
  slots = net.num_classes + (net.head.task == "detection")
  assert logits.dtype == jnp.float32 and logits.shape[-1] == slots
