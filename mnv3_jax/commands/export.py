"""mnv3 export: writes a .tflite file, StableHLO or a SavedModel."""

import sys

from mnv3_jax.architectures import fields, sizes, zoo
from mnv3_jax.commands.given_run import OF_A_RUN, add_run, load_run
from mnv3_jax.commands.options import Options, add_model_fields, given_fields, positive, start_jax
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 export --workdir /tmp/run --out small.tflite
  mnv3 export --workdir /tmp/run --quantize int8                       (into /tmp/run/export/)
  mnv3 export --workdir /tmp/run --quantize int8 --explain             (what 8 bits cost, by row)
  mnv3 export --workdir /tmp/large --quantize int8 --data photos/val --preprocess in_graph --labels --out large.tflite
  mnv3 export --workdir /tmp/imported --quantize int8 --calibration photos --out detector.tflite
  mnv3 export --weights keras/MobileNetV3Large --out large.tflite      (published weights, downloaded the first time)
  mnv3 export --model mobilenetv3_large --out large.tflite             (random weights: to look at the graph or its latency)
  mnv3 export --model mobilenetv3_large --head lr_aspp --output_stride 16 --resolution 512 --resolution_width 1024 \\
    --num_classes 19 --argmax --out seg.tflite                         (a class for every pixel)
  mnv3 export --workdir /tmp/run --format stablehlo --out small.stablehlo"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 export --help."""
  options = _options()
  given = options.parse(arguments)
  asked = given_fields(given)
  named = given.weights is not None and given.weights not in OF_A_RUN
  if [bool(given.run), bool(given.model), named].count(True) != 1 or (given.model and given.weights):
    raise UsageError(
      "export takes either --workdir DIR (a trained run), --weights NAME (published weights) or --model NAME (random weights)"
    )
  others = [name for name in asked if name not in ("resolution", "resolution_width")]
  if not given.model and others:
    raise UsageError(f"--{others[0]} needs --model; the network of {'--weights' if named else '--workdir'} is in its config")
  if not given.run and not given.file:
    raise UsageError(f"{'--weights' if named else '--model'} needs --out FILE; only a run has a directory for its files")
  with options.naming_flags():
    source = fields.architecture(given.model, **asked) if given.model else given.run
    start_jax()
    from mnv3_jax.deploy.export import export

    resolution = None
    if not given.model:
      source = load_run(given, "run")
      if given.resolution or given.resolution_width:
        height = given.resolution or sizes.sides(source.architecture.resolution)[0]
        resolution = sizes.from_sides(height, given.resolution_width or height)
    names = (
      "quantize",
      "calibration",
      "data",
      "examples",
      "preprocess",
      "argmax",
      "postprocess",
      "labels",
      "unfused",
      "explain",
      "format",
    )
    exported = export(source, given.file, resolution=resolution, **{name: getattr(given, name) for name in names})
  print("\n".join(exported.lines()))
  for warning in exported.warnings():
    print(f"mnv3: {warning}", file=sys.stderr)


def _number_or_folder(word: str) -> int | str:
  return positive(word) if word.lstrip("+-").isdecimal() else word


def _options() -> Options:
  from mnv3_jax.architectures.conventions import PROFILES
  from mnv3_jax.deploy import FORMATS, PREPROCESS
  from mnv3_jax.export.quantize import QUANTIZATIONS

  what = "Writes a .tflite file if it agrees with Flax, and its accuracy, agreement and latency to FILE.json."
  options = Options("export", what, EXAMPLE)
  add_run(options, dest="run")
  options.add_argument("--model", metavar="NAME", help=f"instead of --workdir: a network with random weights, {zoo.NAMES}")
  options.add_argument("--out", dest="file", metavar="FILE", help="file to write (DIR/export/MODEL_QUANTIZATION.tflite)")
  meanings = "; ".join(f"{name}: {meaning}" for name, meaning in QUANTIZATIONS.items())
  options.add_argument("--quantize", choices=tuple(QUANTIZATIONS), default="none", help=f"{meanings} (none)")
  options.add_argument(
    "--calibration",
    type=_number_or_folder,
    metavar="N|DIR",
    help="training images on which ranges of 8-bit activations are found (200; segmentation 10 to 50, by their size), or a "
    "folder of photos that replace them",
  )
  options.add_argument(
    "--data",
    metavar="DIR",
    help="test images instead of the run's own, in the layout of its data set (classification: one folder per class); they "
    "calibrate too where its training images are missing",
  )
  options.add_argument(
    "--examples",
    type=positive,
    metavar="N",
    help="test images to evaluate the file on (500; embedded: all; segmentation 10 to 50, by their size)",
  )
  options.add_argument(
    "--preprocess",
    choices=PREPROCESS,
    default="outside",
    help="outside: the file takes normalized images; in_graph: it takes uint8 pixels and normalizes them itself (outside)",
  )
  options.add_argument(
    "--argmax", action="store_true", help="segmentation: the file gives the class of every pixel, uint8, instead of logits"
  )
  profiles = "; ".join(f"{name}: {meaning}" for name, meaning in PROFILES.items())
  options.add_argument("--postprocess", choices=tuple(PROFILES), help=f"detection: the file gives boxes. {profiles} (device)")
  options.add_argument("--labels", action="store_true", help="write the class names to FILE.labels.txt too")
  options.add_argument(
    "--unfused",
    action="store_true",
    help="h-swish as add, ReLU6 and product, as in Table 5's runtimes without optimized h-swish",
  )
  options.add_argument(
    "--explain",
    action="store_true",
    help="compare the map of every row with Flax: names the rows that lose most, and draws all into FILE.rows.png",
  )
  options.add_argument(
    "--format", choices=FORMATS, default="tflite", help="stablehlo: for jax.export; saved_model: needs TensorFlow (tflite)"
  )
  add_model_fields(options)
  return options
