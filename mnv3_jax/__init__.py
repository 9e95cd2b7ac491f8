"""MobileNetV3 and its siblings in JAX: rebuilt, changed, measured and shipped."""

from mnv3_jax.api import create, list_models, load

__all__ = ["__version__", "create", "list_models", "load"]
__version__ = "0.1.0"
