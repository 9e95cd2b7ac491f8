"""Ahead-of-time compilation of training and evaluation for TPU slices that are not there: memory, estimated time, bounds.

libtpu, which `pip install "mnv3_jax[tpu]"` installs, has the compiler. Nothing here runs on a TPU, and every time is the
compiler's estimate.
"""
