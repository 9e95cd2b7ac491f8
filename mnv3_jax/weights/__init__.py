"""Weights that others trained: one declarative name map per source, complete and strict."""
