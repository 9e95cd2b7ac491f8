"""This project's own files of weights: Linen's names and axes, for the networks that no other library has."""

from mnv3_jax.architectures import cost, zoo
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.weights.mapping import LayerNames, Layout, Published

SOURCE = "mnv3_jax"
LINEN = Layout(
  leaves={"kernel": "kernel", "bias": "bias", "scale": "scale", "offset": "bias", "mean": "mean", "var": "var"},
  conv=(0, 1, 2, 3),
  depthwise_axes=(0, 1, 2, 3),
  fc=(0, 1),
  joint="/",
)
PREPROCESSING = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop": 0.875, "interpolation": "bilinear"}


def _names(a: Architecture) -> dict[str, LayerNames]:
  return {layer.name: LayerNames(layer.name, f"{layer.name}/bn") for layer in cost.layers(a)}


# every other field of config.model may differ from these
MODELS = {name: Published(model={"name": name}, preprocessing=PREPROCESSING, names=_names, layout=LINEN) for name in zoo.MODELS}
