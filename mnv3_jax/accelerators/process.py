"""The compiler's process: its environment, a request, the answer."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import mnv3_jax
from mnv3_jax.accelerators.topologies import AnyTopology
from mnv3_jax.errors import FatalError, UsageError

# settings with which libtpu compiles where there is no TPU: it asks no metadata server, which it would wait for
SETTINGS = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
# without a GPU, XLA can time no kernels to choose from, and finds no tile for some products in Triton
GPU_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_shard_autotuning=false --xla_gpu_enable_triton_gemm=false"
# by platform: modules of which one has the compiler, its name, the package that installs it
COMPILERS = {
  "tpu": (("libtpu",), "TPU", "'mnv3_jax[tpu]' does it (libtpu, Linux on x86-64)"),
  "cuda": (("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12"), "GPUs", "'jax[cuda12]' does it (Linux)"),
}


def check_installed(topology: AnyTopology) -> None:
  """Raises UsageError where the compiler for a topology is not installed."""
  modules, what, how = COMPILERS[topology.platform]
  if not any(map(_installed, modules)):
    raise UsageError(f"the compiler for {what} is not installed; pip install {how}")


def _installed(module: str) -> bool:
  """Tells whether a module can be imported."""
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    # the package in which it would be
    return False


def environment(given: Mapping[str, str], topology: AnyTopology) -> dict[str, str]:
  """Returns the environment of the compiler's process: JAX on the CPU, and SETTINGS where `given` has none."""
  # the package itself, where it is not installed
  path = [str(pathlib.Path(mnv3_jax.__file__).parents[1]), *filter(None, [given.get("PYTHONPATH")])]
  found = {**SETTINGS, **given, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(path)}
  if topology.platform == "cuda":
    found["XLA_FLAGS"] = " ".join(filter(None, [GPU_FLAGS, given.get("XLA_FLAGS")]))
    # where no GPU is visible, JAX does not load the compiler
    found.pop("CUDA_VISIBLE_DEVICES", None)
  return found


def compile_programs(config: Mapping[str, Any], topology: AnyTopology, programs: Sequence[str]) -> dict[str, Any]:
  """Compiles programs of a config for a topology in a process of its own; takes minutes.

  Args:
    config: values by section and field.
    topology: for which they are compiled.
    programs: "training", "evaluation".

  Returns:
    The answer of accelerators/compiler.py.

  Raises:
    UsageError: for a config that is invalid on these devices.
    FatalError: if the compiler's process ends without an answer, with its last words.
  """
  request = {
    "config": config,
    "topology": topology.name,
    "platform": topology.platform,
    "options": topology.options(),
    "programs": list(programs),
  }
  done = subprocess.run(
    [sys.executable, "-m", "mnv3_jax.accelerators.compiler"],
    input=json.dumps(request),
    capture_output=True,
    text=True,
    env=environment(os.environ, topology),
  )
  if done.returncode or not done.stdout:
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]
    raise FatalError(f"the compiler for {topology} ended without an answer: {last}")
  answer = json.loads(done.stdout.splitlines()[-1])
  if "invalid" in answer:
    raise UsageError(answer["invalid"])
  return answer
