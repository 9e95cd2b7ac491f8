"""mnv3 export_weights: writes weights for timm, torchvision, Keras or TF-slim."""

from mnv3_jax.commands.given_run import add_run, check_run, load_run
from mnv3_jax.commands.options import Options, start_jax

EXAMPLE = """mnv3 export_weights --workdir runs/small --format timm --out small/model.safetensors
    (and small/config.json: timm.create_model("local-dir:small", pretrained=True) builds the network)
  mnv3 export_weights --workdir runs/large --format torchvision --out large.safetensors
  mnv3 export_weights --workdir runs/small --format keras --out small.weights.h5    (.h5: the layout of Keras 2)
  mnv3 export_weights --workdir runs/small --weights raw --format slim --out small.npz
  mnv3 export_weights --weights keras/MobileNetV3Large --format timm --out large/model.safetensors
  mnv3 import --from timm --model tf_mobilenetv3_small_100 small/model.safetensors --out again    (reads such a file)

  A network that no function of the library builds, such as most ablations, is refused with what differs."""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 export_weights --help."""
  from mnv3_jax.weights.targets import FORMATS

  what = "Writes weights to a file that timm, torchvision, Keras or TF-slim loads, and prints the lines that load it there."
  options = Options("export_weights", what, EXAMPLE)
  add_run(options, dest="run")
  options.add_argument("--format", required=True, choices=tuple(FORMATS), help="the library that the file is for")
  suffixes = ", ".join(f"{format}: {suffix}" for format, suffix in FORMATS.items())
  options.add_argument("--out", dest="file", required=True, metavar="FILE", help=f"file to write ({suffixes})")
  given = options.parse(arguments)
  check_run(options, given, "run")
  start_jax()
  from mnv3_jax.deploy.export_weights import check_file, export_weights

  with options.naming_flags():
    # before a download
    check_file(given.format, given.file)
    exported = export_weights(load_run(given, "run"), given.format, given.file)
  print("\n".join(exported.lines()))
