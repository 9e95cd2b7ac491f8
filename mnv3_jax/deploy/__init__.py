"""Composition of training, export and latency: exports a run, and reports on a run and its file."""

FORMATS = ("tflite", "stablehlo", "saved_model")
PREPROCESS = ("outside", "in_graph")
