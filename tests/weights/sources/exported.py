"""Files of export_weights for run_exported.py: seeded weights of every network, and networks as this project trains them."""

import json

import jax
import numpy as np
import seeds

import mnv3_jax
from mnv3_jax.architectures import fields
from mnv3_jax.models.network import network
from mnv3_jax.weights import sources
from mnv3_jax.weights.usage import FULL_TAIL

FILES = {"timm": "model.safetensors", "torchvision": "net.safetensors", "keras": "net.weights.h5"}
# both layouts of Keras
OWN_FILES = {**{format: (name,) for format, name in FILES.items()}, "keras": ("net.weights.h5", "net.h5")}
# (format, network, fields): other classes, sizes, paddings and epsilons than their sources publish, none of them ImageNet's
OWN = [
  *(("timm", name, {}) for name in ("mobilenetv1", "mobilenetv2", "mobilenetv3_small", "mnasnet_a1")),
  ("timm", "mobilenetv3_small", {"width": 0.75}),
  *(("timm", f"mobilenetv4_conv_{size}", {}) for size in ("small", "medium", "large")),
  ("torchvision", "mobilenetv3_small", {"padding": "symmetric"}),
  ("torchvision", "mobilenetv3_large", {"padding": "symmetric", "width": 0.75, "width_rule": "torchvision"}),
  *(("torchvision", "mobilenetv2", {"padding": "symmetric", "bn_epsilon": 1e-5, "width": width}) for width in (0.5, 1.4)),
  ("keras", "mobilenetv1", {"width": 0.5}),
  ("keras", "mobilenetv2", {}),
  ("keras", "mobilenetv3_small", {"width": 0.75, "minimalistic": True}),
]


def write_published(folder, case, logits):
  """Exports the seeded weights of a case, with the logits that its source computed of them; returns the directory."""
  source, model, options = case
  published = sources.published(source, model, **options)
  architecture, variables = seeds.variables(published)
  directory = folder / seeds.case_name(*case)
  return _write(directory / FILES[source], source, architecture, variables, seeds.images(published), logits)


def write_own(folder, case):
  """Exports random weights of a network of this project, with the logits that Flax computes of them.

  Returns:
    A directory for each layout of files that the format has.
  """
  format, name, options = case
  architecture = fields.architecture(name, num_classes=10, resolution=64, **options)
  model = network(architecture)
  variables = seeds.variables_of(architecture)
  images = np.random.default_rng(7).uniform(-1, 1, (3, *architecture.image_shape)).astype(np.float32)
  with jax.default_matmul_precision("highest"):
    logits = np.asarray(jax.jit(model.apply)(variables, images))
  own = folder / seeds.case_name("own", f"{format}-{name}", options)
  return [
    _write(own / file.replace(".", "_") / file, format, architecture, variables, images, logits) for file in OWN_FILES[format]
  ]


def _write(file, format, architecture, variables, images, logits):
  found, directory = mnv3_jax.export_weights((network(architecture), variables), format, file), file.parent
  usage = {"lines": found.usage, "file": str(found.file)}
  (directory / "usage.json").write_text(json.dumps(usage))
  np.save(directory / "images.npy", images)
  np.save(directory / "logits.npy", logits)
  return directory


def write_all(folder, cases):
  """Writes a directory for every case, FOLDER/NAME; returns them by format.

  Args:
    folder: for the directories.
    cases: directory of CASE.logits.npy, which the sources have written.
  """
  found = {format: [] for format in FILES}
  for case in seeds.CASES:
    # torchvision's function for it would download the weights of ImageNet
    if case[0] in FILES and not case[1].endswith(FULL_TAIL):
      logits = np.load(cases / f"{seeds.case_name(*case)}.logits.npy")
      found[case[0]].append(write_published(folder, case, logits))
  for case in OWN:
    found[case[0]] += write_own(folder, case)
  return found
