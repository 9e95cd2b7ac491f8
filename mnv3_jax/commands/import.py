"""mnv3 import: weights that others trained, as a directory that evaluate, predict, export and train --init use as any other."""

import hashlib
import pathlib

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.commands.options import Options, add_model_field, start_jax
from mnv3_jax.config import base
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 import --from timm --model mobilenetv3_large_100 model.safetensors --out large
  mnv3 import --from torchvision --model mobilenet_v2.IMAGENET1K_V2 mobilenet_v2-7ebf99e0.pth --out v2    (needs PyTorch)
  mnv3 import --from keras --model MobileNetV3Small --width=0.75 small.h5 --out small
  mnv3 import --from torchvision --model lraspp_mobilenet_v3_large lraspp.pth --out voc --resolution=520 --resolution_width=693
  mnv3 import --list                         (every network that is known, by source)
  mnv3 predict --workdir large photo.jpg     (and evaluate, export, train --init large)

  .safetensors, .npz, .h5, .keras are read directly, .pth with PyTorch's safe loader only; pickles are never loaded.
  Where a training checkpoint has averaged weights, these are taken."""

# what else a network is, its source says
FIELDS = ("width", "minimalistic", "resolution", "resolution_width")


def main(arguments):
  """Runs the verb; see mnv3 import --help."""
  options = Options("import", "Imports weights from torchvision, timm, Keras applications or TF-slim.", EXAMPLE)
  options.add_argument("file", metavar="FILE", nargs="?", help="the weights")
  options.add_argument("--from", dest="source", metavar="SOURCE", help="torchvision, timm, keras or slim")
  options.add_argument("--model", metavar="NAME", help="the network under its name there; see --list")
  options.add_argument("--out", metavar="DIR", help="the directory to make")
  options.add_argument("--classes", metavar="FILE", help="class names, one a line, where they are not the source's own")
  options.add_argument("--list", action="store_true", help="print the networks that are known, by source")
  group = options.add_argument_group("network", "fields of config.model in which a file may differ from what is published")
  for name in FIELDS:
    add_model_field(group, name)
  given = options.parse(arguments)

  from mnv3_jax.weights import sources

  if given.list:
    print("\n\n".join(f"{source}\n  " + "\n  ".join(models) for source, models in sources.SOURCES.items()))
    return
  for name in ("from", "model", "file", "out"):
    if not getattr(given, "source" if name == "from" else name):
      raise UsageError(f"import has no {'FILE' if name == 'file' else '--' + name}; mnv3 import --help has examples")
  asked = {name: getattr(given, name) for name in FIELDS if getattr(given, name) is not None}
  sources.published(given.source, given.model, **asked).architecture()
  if pathlib.Path(given.out).exists():
    raise UsageError(f"{given.out!r} is there already; --out names a new directory")
  names = read_names(given.classes) if given.classes else None

  from mnv3_jax.weights import formats

  content = formats.read(given.file)
  published, architecture, variables = sources.variables(given.source, given.model, content, given.file, **asked)
  config = config_of(published, architecture, names)
  result = {
    "model": architecture.name,
    "params": cost.params(architecture),
    "madds": cost.madds(architecture),
    "steps": 0,
    "metrics": {},
    "imported": {
      "from": given.source,
      "model": given.model,
      "file": pathlib.Path(given.file).name,
      "sha256": hashlib.sha256(pathlib.Path(given.file).read_bytes()).hexdigest(),
    },
  }
  start_jax()
  from mnv3_jax.training import trained

  trained.save(given.out, config, variables, result)
  print(
    f"{given.out}: {given.source}'s {given.model}, {architecture.num_classes} classes, {cost.params(architecture):,} parameters"
  )
  size, view = sizes.pixels(architecture.resolution), published.view
  print(f"  {architecture.name}, width {architecture.width:g}, {size}, padding {architecture.padding}")
  shown = "whole photos, scaled to fit" if architecture.segmenter else f"{view['crop']:.1%} central crop"
  print(f"  input: mean {view['mean']}, deviation {view['std']}; {shown}, {view['interpolation']}")


def read_names(path):
  """The class names in a text file, one a line."""
  file = pathlib.Path(path)
  if not file.is_file():
    raise UsageError(f"no file {path!r}; --classes takes one with a class name a line")
  try:
    # some editors begin a file with a mark
    names = file.read_text(encoding="utf-8-sig").splitlines()
  except UnicodeDecodeError:
    raise UsageError(f"{path!r} is no text; --classes takes a file with a class name a line") from None
  names = tuple(name.strip() for name in names if name.strip())
  twice = [name for i, name in enumerate(names) if name in names[:i]]
  if twice:
    raise UsageError(f"{path!r} names the class {twice[0]!r} twice")
  return names


def config_of(published, architecture, names):
  """The config of a directory with imported weights.

  Args:
    published: mapping.Published.
    architecture: that of the weights, with their number of classes.
    names: of the classes; None for the source's own, where the weights have as many, and none otherwise.

  Raises:
    UsageError: if there are not as many names as classes, or a segmenter has none.
  """
  n, dense = architecture.num_classes, architecture.segmenter is not None
  if names is not None and len(names) != n:
    raise UsageError(f"--classes names {len(names)} classes, the weights have {n}")
  if names is None and len(published.classes) == n:
    names = published.classes
  if dense and names is None:
    raise UsageError(f"the weights have {n} classes where {len(published.classes)} have names; --classes FILE names them")
  imagenet = names is None and n == 1000
  config = base()
  config.model.update({**published.model, "num_classes": n})
  config.data.update({"classes": names or (), "augment": "none", **published.view})
  # segmenters are evaluated on photos and masks in the layout of VOC, classes of photos on those of class folders
  config.data.update({"dataset": "voc", "eval_split": "val"} if dense else {"dataset": "imagenet" if imagenet else "folder"})
  config.optim.update({"name": "none", "ema": 0.0})
  # logits of every pixel take two hundred times the memory
  config.evaluate.batch_size = 8 if dense else 50
  return config
