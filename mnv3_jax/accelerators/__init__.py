"""Ahead-of-time compilation of training and evaluation for accelerators that are not there.

For TPU slices: memory, estimated time, bounds; `pip install "mnv3_jax[tpu]"` installs the compiler, libtpu. For GPUs: memory;
`pip install "jax[cuda12]"` installs the compiler. Nothing here runs on them, and every time is the compiler's estimate.
"""
