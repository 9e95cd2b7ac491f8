"""Networks in one line, for notebooks: create, list_models, load."""

from mnv3_jax.architectures import fields, zoo


def list_models():
  """Names that `create` takes."""
  return list(zoo.MODELS)


def create(name, *, seed=0, **changes):
  """A network and its seeded variables.

  Args:
    name: one of list_models().
    seed: of the variables.
    **changes: any field of config.model: num_classes=10, width=0.75, resolution=160, h_swish_from=112, dtype="bfloat16", ...

  Returns:
    (model, variables): model.apply(variables, images) gives logits (b, num_classes) of images (b, r, r, 3) in [-1, 1], or
    (b, r, r, num_classes) with segmenter="lr_aspp";
    model.apply(variables, images, method="features") gives every map by name, C1 to C5 among them. model.net is the
    Architecture: print it to see the paper's table.

  Raises:
    ArchitectureError: for an unknown name or field, naming the closest, or a value that is not possible.
  """
  architecture = fields.architecture(name, **changes)
  from mnv3_jax.models.initialize import initialize
  from mnv3_jax.models.layers import Compute
  from mnv3_jax.models.network import network

  compute = Compute(dtype=changes.get("dtype") or "float32", bn_group=changes.get("bn_group") or 0)
  model = network(architecture, compute)
  return model, initialize(model, seed)


def load(workdir, weights="ema"):
  """What a run has learnt, or what `mnv3 import` has made.

  Args:
    workdir: the directory.
    weights: "ema" (averaged where the run keeps an average), "raw" or "best".

  Returns:
    A training.trained.Trained: `model, variables = load(DIR)` unpacks it; .classes, .prepare(photo) and .config are there too.

  Raises:
    UsageError: if the directory is not that of a run.
  """
  from mnv3_jax.training import trained

  return trained.load(workdir, weights)
