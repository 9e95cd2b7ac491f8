"""mnv3 import: weights of torchvision, timm, Keras applications, TF-slim or TF Object Detection as a run directory."""

import argparse
import os

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.commands.options import Options, add_model_field, start_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.report.text_table import aligned

EXAMPLE = """mnv3 import timm/mobilenetv3_large_100.ra_in1k --out large          (downloads them, as the next two)
  mnv3 import keras/MobileNetV3Small_0.75 --out small
  mnv3 import hf://USER/REPOSITORY --out tuned
  mnv3 import --list '*v3*small*'            (names, with published accuracy, parameters, input size and license)
  mnv3 import --from timm --model mobilenetv3_large_100 model.safetensors --out large
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
  what = "Imports weights of torchvision, timm, Keras, TF-slim or TF Object Detection: a file, or downloaded by name."
  options = Options("import", what, EXAMPLE)
  options.add_argument("file", metavar="FILE", nargs="?", help="the weights: a file, or without --from a name to download")
  options.add_argument(
    "--from", dest="source", metavar="SOURCE", help="torchvision, timm, keras, slim, tf_object_detection or mnv3_jax"
  )
  options.add_argument("--model", metavar="NAME", help="the network's name there; see --list. tf_object_detection does without")
  options.add_argument("--out", metavar="DIR", help="directory to create")
  options.add_argument("--classes", metavar="FILE", help="class names, one per line, where they are not the source's own")
  options.add_argument(
    "--list",
    nargs="?",
    const=True,
    metavar="PATTERN",
    help="print the known networks, by source; with a pattern the names of weights that can be downloaded",
  )
  group = options.add_argument_group("network", "fields of config.model in which a file may differ from what is published")
  for name in FIELDS:
    add_model_field(group, name)
  given = options.parse(arguments)
  if given.list:
    _list(given.list)
    return
  # a file that is there needs --from
  named = given.source is None and given.file is not None and not os.path.lexists(given.file)
  _check_complete(given, named)
  start_jax()
  from mnv3_jax.training.imported import import_weights

  others = {name: getattr(given, name) for name in ("model", "out", "classes", *FIELDS)}
  with options.naming_flags():
    run = import_weights(str(given.file), **others) if named else import_weights(str(given.source), file=given.file, **others)
  view, result = run.config.data, run.result or {}
  imported = result["imported"]
  architecture = fields.architecture(**run.config.model)
  classes = counted(architecture.num_classes, "class", "classes") if architecture.num_classes else "no classification head"
  print(f"{given.out}: {imported['from']}'s {imported['model']}, {classes}, {result['params']:,} parameters")
  size = sizes.pixels(architecture.resolution)
  print(f"  {architecture.name}, width {architecture.width:g}, {size}, padding {architecture.padding}")
  print(f"  input: mean {view.mean}, std {view.std}; central crop {view.crop:.1%}, {view.interpolation}")
  if named:
    print(f"  from {imported['url']}; license: {imported['license'] or 'not stated'}")


def _list(pattern: str | bool) -> None:
  """Prints the networks by source, or with a pattern the names of weights."""
  from mnv3_jax.weights import sources
  from mnv3_jax.weights.hub import catalogue, named

  if pattern is True:
    print("\n\n".join(f"{source}\n  " + "\n  ".join(models) for source, models in sources.SOURCES.items()))
    print("\nmnv3 import --list PATTERN lists weights that can be downloaded; mnv3 import --list '*' all of them")
    return
  found = catalogue.list_weights(str(pattern))
  if not found:
    raise UsageError(f"no weights match --list={pattern!r}; mnv3 import --list '*' lists all of them")
  print(aligned(named.HEAD, [weights.cells() for weights in found]))


def _check_complete(given: argparse.Namespace, named: bool) -> None:
  """Raises UsageError for a flag that is missing."""
  from mnv3_jax.weights.sources import BY_CONTENT

  needed = {"file": "FILE or NAME", "source": "--from", "model": "--model", "out": "--out"}
  unneeded = ("source", "model") if named else ("model",) if given.source in BY_CONTENT else ()
  for name, flag in needed.items():
    if not getattr(given, name) and name not in unneeded:
      raise UsageError(f"import has no {flag}; mnv3 import --help has examples")
