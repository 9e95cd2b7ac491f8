"""MobileNetV3 and its siblings in JAX: rebuilt, changed, measured and shipped."""

__version__ = "0.1.0"
