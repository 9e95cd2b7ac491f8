"""Run directories of networks with random weights, as an import writes them: made in a second."""

from tiny_network import FEW_BLOCKS

from mnv3_jax.config import base
from mnv3_jax.training.create import create_model
from mnv3_jax.training.trained import save


def untrained(workdir, dataset="fashion_mnist", **model):
  """Writes the directory of a network of few blocks at 32 px, unless `model` has other fields."""
  config = base()
  config.model.update({"name": "mobilenetv3_small", "blocks": FEW_BLOCKS, "num_classes": 10, "resolution": 32, **model})
  config.data.update({"dataset": dataset, "augment": "none"})
  config.train.batch_size = 16
  config.optim.update({"name": "none", "ema": 0.0})
  fields = {name: value for name, value in config.model.items() if name != "name" and value is not None}
  _, variables = create_model(config.model.name, **fields)
  save(workdir, config, variables, {"model": config.model.name, "steps": 0, "metrics": {}})
  return workdir
