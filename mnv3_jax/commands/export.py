"""mnv3 export: writes a .tflite file."""

import itertools

import numpy as np
from PIL import Image

from mnv3_jax.architectures import fields, zoo
from mnv3_jax.commands.options import Options, add_model_fields, add_workdir, given_fields, start_jax
from mnv3_jax.data import fashion_mnist
from mnv3_jax.data.photographs import Photographs
from mnv3_jax.errors import WrongUse

EXAMPLE = """mnv3 export --workdir /tmp/run --out small.tflite
  mnv3 export --model mobilenetv3_large --out large.tflite    (seeded weights: to look at the graph or its latency)"""

# test photos that a trained network is compared on; fewer where they are the embedded ones in another network's size
COMPARED, BORROWED = 200, 20


def main(arguments):
  """Runs the verb; see mnv3 export --help."""
  what = "Writes a float32 .tflite file, after it was found to agree with Flax."
  options = Options("export", what, EXAMPLE)
  add_workdir(options, required=False)
  options.add_argument("--model", metavar="NAME", help=f"instead of --workdir: {', '.join(zoo.MODELS)} with seeded weights")
  options.add_argument("--out", required=True, metavar="FILE", help="the .tflite file to write")
  add_model_fields(options)
  given = options.parse(arguments)
  asked = given_fields(given)
  if bool(given.workdir) == bool(given.model):
    raise WrongUse("export takes either --workdir DIR (a trained run) or --model NAME (seeded weights)")
  if given.workdir and asked:
    raise WrongUse(f"--{next(iter(asked))} goes with --model; a run of --workdir has its network in its config")
  architecture = fields.architecture(given.model, **asked) if given.model else None

  start_jax()
  from mnv3_jax.mobile.export import export, seeded

  if given.workdir:
    from mnv3_jax.training import trained

    run = trained.load(given.workdir, given.weights)
    architecture, variables = run.job.architecture, run.variables
    images = first_images(run.job.dataset, COMPARED)
  else:
    variables, images = seeded(architecture)
  print_exported(export(architecture, variables, given.out, images))


def first_images(dataset, n):
  """The first `n` test images (n, r, r, channels) of a data set, or embedded photos where it has none of its own."""
  if isinstance(dataset, Photographs):
    photos, _ = fashion_mnist.load(f"test[:{BORROWED}]")
    return np.stack([dataset.prepare(Image.fromarray(photo)) for photo in photos])
  batches = itertools.islice(dataset.eval_batches(n), 1)
  return np.concatenate([b["image"][b["mask"] > 0] for b in batches])


def print_exported(e):
  """Prints an Exported as people read it."""
  print(f"{e.path}: {e.size / 1e6:.2f} MB, {sum(e.ops.values())} operators, XNNPACK partitions: {e.partitions}")
  print("  " + ", ".join(f"{n} {op}" for op, n in e.ops.items()))
  print(
    f"  against Flax on {e.images} images: largest difference {e.max_difference:.1e} (largest logit {e.largest_logit:.1f}), "
    f"same first class on {e.top1_agreement:.1%}"
  )
