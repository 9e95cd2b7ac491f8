"""mnv3 predict: names what is on photos; of a segmenter, paints it."""

import pathlib

import numpy as np

from mnv3_jax.commands.options import Options, add_workdir, positive, print_json, start_jax
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 predict --workdir /tmp/run shoe.png coat.jpg --top 3
  mnv3 predict --workdir /tmp/segmenter street.jpg --out painted    (painted/street_mask.png, painted/street_overlay.png)"""


def main(arguments):
  """Runs the verb; see mnv3 predict --help."""
  what = "Names what is on photos: the likeliest classes with their probabilities; of a segmenter, a class for every pixel."
  options = Options("predict", what, EXAMPLE)
  add_workdir(options)
  options.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG, any size, grey or colour")
  options.add_argument("--top", type=positive, metavar="K", help="classes to name (5)")
  options.add_argument("--out", metavar="DIR", help="where a segmenter's masks and overlays go (predictions)")
  options.add_argument(
    "--json",
    action="store_true",
    help="print a list of {image, top: [{index, label, probability}]}; with masks {image, mask, ...}",
  )
  given = options.parse(arguments)

  from mnv3_jax.data.transforms.decoding import open_image

  photos = [open_image(path) for path in given.images]
  start_jax()
  from mnv3_jax.training import trained

  run = trained.load(given.workdir, given.weights)
  dense = run.job.architecture.segmenter is not None
  if dense and given.top:
    raise UsageError(f"--top goes with a classifier; {given.workdir!r} has a segmenter, which gives every pixel one class")
  if not dense and given.out:
    raise UsageError(f"--out goes with a segmenter; {given.workdir!r} has a classifier, which paints nothing")
  found = (masked if dense else named)(run, given, photos)
  if given.json:
    print_json(found)
    return
  for photo in found:
    print(photo["image"])
    for c in photo["top" if not dense else "classes"]:
      print(f"  {c['probability' if not dense else 'share']:6.1%}  {c['label']}")
    if dense:
      print(f"  {photo['mask']}, {photo['overlay']}")


def named(run, given, photos):
  """[{"image", "top"}] of a classifier."""
  import jax

  from mnv3_jax.models import inference

  dataset = run.job.dataset
  x = np.stack([dataset.prepare(photo) for photo in photos])
  probabilities = np.asarray(jax.nn.softmax(inference.logits(run.job.model, run.variables, x)))
  return [
    {"image": path, "top": top_classes(p, dataset.classes, given.top or 5)}
    for path, p in zip(given.images, probabilities, strict=True)
  ]


def masked(run, given, photos):
  """[{"image", "mask", "overlay", "classes"}] of a segmenter; writes both files of every photo."""
  import jax

  from mnv3_jax.data.transforms.decoding import colour, upright
  from mnv3_jax.data.transforms.fit import unfit
  from mnv3_jax.report import overlays

  out = pathlib.Path(given.out or "predictions")
  stems = [pathlib.Path(path).stem for path in given.images]
  for stem in stems:
    if stems.count(stem) > 1:
      raise UsageError(f"two photos are called {stem!r}, and so would be their masks; predict them into two --out folders")
  if out.exists() and not out.is_dir():
    raise UsageError(f"--out {str(out)!r} is a file; it takes a folder")
  out.mkdir(parents=True, exist_ok=True)
  dataset, a = run.job.dataset, run.job.architecture
  names = class_names(dataset.classes, a.num_classes)
  forward, found = jax.jit(lambda variables, x: run.model.apply(variables, x).argmax(-1).astype("uint8")), []
  for path, stem, photo in zip(given.images, stems, photos, strict=True):
    labels = np.asarray(forward(run.variables, dataset.prepare(photo)[None]))[0]
    pixels = np.asarray(colour(upright(photo)))
    mask = unfit(labels, pixels.shape[:2])
    files = {kind: str(out / f"{stem}_{kind}.png") for kind in ("mask", "overlay")}
    overlays.write_mask(mask, overlays.colours(names), files["mask"])
    overlays.overlay(pixels, mask, names, files["overlay"], f"{pathlib.Path(path).name}: {a.name}, {a.segmenter.head}")
    shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
    classes = [
      {"index": int(i), "label": names[i], "share": float(shares[i])} for i in np.argsort(-shares, kind="stable") if shares[i]
    ]
    found.append({"image": path, **files, "classes": classes})
  return found


def class_names(classes, n):
  """Names of `n` classes, those that nobody named by their number."""
  return [*classes, *(f"class {i}" for i in range(len(classes), n))]


def top_classes(probabilities, classes, k):
  """The `k` likeliest of probabilities (classes,), as a list of {"index", "label", "probability"}."""
  best = np.argsort(-probabilities, kind="stable")[:k]
  names = class_names(classes, len(probabilities))
  return [{"index": int(i), "label": names[i], "probability": float(probabilities[i])} for i in best]
