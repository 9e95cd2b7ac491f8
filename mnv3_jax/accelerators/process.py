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
from mnv3_jax.accelerators.topologies import Topology
from mnv3_jax.errors import FatalError, UsageError

# settings with which libtpu compiles where there is no TPU: it asks no metadata server, which it would wait for
SETTINGS = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}


def check_installed() -> None:
  """Raises UsageError where libtpu is not installed."""
  if importlib.util.find_spec("libtpu") is None:
    raise UsageError("the compiler for TPU is not installed; pip install 'mnv3_jax[tpu]' does it (libtpu, Linux on x86-64)")


def environment(given: Mapping[str, str]) -> dict[str, str]:
  """Returns the environment of the compiler's process: JAX on the CPU, and SETTINGS where `given` has none."""
  # the package itself, where it is not installed
  path = [str(pathlib.Path(mnv3_jax.__file__).parents[1]), *filter(None, [given.get("PYTHONPATH")])]
  return {**SETTINGS, **given, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(path)}


def compile_programs(config: Mapping[str, Any], topology: Topology, programs: Sequence[str]) -> dict[str, Any]:
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
  request = {"config": config, "topology": topology.name, "options": topology.options(), "programs": list(programs)}
  done = subprocess.run(
    [sys.executable, "-m", "mnv3_jax.accelerators.compiler"],
    input=json.dumps(request),
    capture_output=True,
    text=True,
    env=environment(os.environ),
  )
  if done.returncode or not done.stdout:
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]
    raise FatalError(f"the compiler for {topology} ended without an answer: {last}")
  answer = json.loads(done.stdout.splitlines()[-1])
  if "invalid" in answer:
    raise UsageError(answer["invalid"])
  return answer
