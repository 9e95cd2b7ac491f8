"""mnv3 import: weights of torchvision, timm, Keras applications, TF-slim or TF Object Detection as a run directory."""

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.commands.options import Options, add_model_field, start_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted

EXAMPLE = """mnv3 import --from timm --model mobilenetv3_large_100 model.safetensors --out large
  mnv3 import --from torchvision --model mobilenet_v2.IMAGENET1K_V2 mobilenet_v2-7ebf99e0.pth --out v2    (needs PyTorch)
  mnv3 import --from keras --model MobileNetV3Small --width=0.75 small.h5 --out small
  mnv3 import --from torchvision --model lraspp_mobilenet_v3_large lraspp.pth --out voc --resolution=520 --resolution_width=693
  mnv3 import --from tf_object_detection frozen_inference_graph.pb --out people --classes names.txt
  mnv3 import --list                         (every known network, by source)
  mnv3 predict --workdir large photo.jpg     (and evaluate, export, train --init large)

  .safetensors, .npz, .h5, .keras and frozen graphs (.pb) are read directly, files of torch.save (.pth, .bin, .ckpt) with
  PyTorch's safe loader only; pickles are never loaded. The content decides, not the suffix; prefixes such as module. or
  _orig_mod. are stripped.
  Averaged weights are preferred where a training checkpoint has them."""

# the other fields of a network are given by its source
FIELDS = ("width", "minimalistic", "resolution", "resolution_width")


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 import --help."""
  options = Options("import", "Imports weights of torchvision, timm, Keras, TF-slim or TF Object Detection.", EXAMPLE)
  options.add_argument("file", metavar="FILE", nargs="?", help="the weights")
  options.add_argument("--from", dest="source", metavar="SOURCE", help="torchvision, timm, keras, slim or tf_object_detection")
  options.add_argument("--model", metavar="NAME", help="the network's name there; see --list. tf_object_detection does without")
  options.add_argument("--out", metavar="DIR", help="directory to create")
  options.add_argument("--classes", metavar="FILE", help="class names, one per line, where they are not the source's own")
  options.add_argument("--list", action="store_true", help="print the known networks, by source")
  group = options.add_argument_group("network", "fields of config.model in which a file may differ from what is published")
  for name in FIELDS:
    add_model_field(group, name)
  given = options.parse(arguments)

  from mnv3_jax.weights import sources

  if given.list:
    print("\n\n".join(f"{source}\n  " + "\n  ".join(models) for source, models in sources.SOURCES.items()))
    return
  for name, flag in (("source", "--from"), ("model", "--model"), ("file", "FILE"), ("out", "--out")):
    if not getattr(given, name) and not (name == "model" and given.source in sources.BY_CONTENT):
      raise UsageError(f"import has no {flag}; mnv3 import --help has examples")
  start_jax()
  from mnv3_jax.training.imported import import_weights

  with options.naming_flags():
    run = import_weights(
      given.source,
      given.model,
      given.file,
      given.out,
      classes=given.classes,
      **{name: getattr(given, name) for name in FIELDS},
    )
  view, result = run.config.data, run.result or {}
  model = result["imported"]["model"]
  architecture = fields.architecture(**run.config.model)
  classes = counted(architecture.num_classes, "class", "classes")
  print(f"{given.out}: {given.source}'s {model}, {classes}, {result['params']:,} parameters")
  size = sizes.pixels(architecture.resolution)
  print(f"  {architecture.name}, width {architecture.width:g}, {size}, padding {architecture.padding}")
  print(f"  input: mean {view.mean}, std {view.std}; central crop {view.crop:.1%}, {view.interpolation}")
