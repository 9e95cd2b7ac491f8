"""What of this machine each job of a sweep has for itself."""

import importlib.util
import os
import shutil
import subprocess

from mnv3_jax.errors import UsageError


def gpus():
  """Names of the GPUs that trials would use, as CUDA_VISIBLE_DEVICES takes them; none where JAX has no GPU or was told so."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
    return []
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  if visible is not None:
    return [name for name in visible.split(",") if name not in ("", "-1")]
  if not shutil.which("nvidia-smi") or not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)):
    return []
  listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
  return [line.split("UUID: ")[1].rstrip(")") for line in listed.splitlines() if "UUID: GPU-" in line]


def shares(jobs, gpus_each=None):
  """What each of `jobs` jobs at once has: a list of ([CPU cores], {environment}); no cores where they cannot be divided.

  Args:
    jobs: at once; None for one per GPU, or one.
    gpus_each: of one job; None for as many as there are for each.

  Raises:
    UsageError: where there are fewer GPUs than jobs that need one each.
  """
  devices = gpus()
  each = gpus_each if gpus_each is not None else (max(len(devices) // jobs, 1) if jobs else 1) if devices else 0
  jobs = jobs or (len(devices) // each if each and devices else 1) or 1
  if each * jobs > len(devices):
    raise UsageError(
      f"{jobs} jobs at once with {each} GPU each need {jobs * each} GPUs, here are {len(devices)}; "
      + (f"use --jobs={max(len(devices) // each, 1)}" if len(devices) >= each else "JAX_PLATFORMS=cpu trains without any")
    )
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
  divided = 1 < jobs <= len(cores)
  return [
    (
      cores[i * len(cores) // jobs : (i + 1) * len(cores) // jobs] if divided else [],
      {"CUDA_VISIBLE_DEVICES": ",".join(devices[i * each : (i + 1) * each])} if each else {},
    )
    for i in range(jobs)
  ]
