"""mnv3 predict: names what is on photos."""

import numpy as np

from mnv3_jax.commands.options import Options, add_workdir, positive, print_json, start_jax

EXAMPLE = "mnv3 predict --workdir /tmp/run shoe.png coat.jpg --top 3"


def main(arguments):
  """Runs the verb; see mnv3 predict --help."""
  options = Options("predict", "Names what is on photos: the likeliest classes with their probabilities.", EXAMPLE)
  add_workdir(options)
  options.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG, any size, grey or colour")
  options.add_argument("--top", type=positive, default=5, metavar="K", help="classes to name (5)")
  options.add_argument("--json", action="store_true", help="print a list of {image, top: [{index, label, probability}]}")
  given = options.parse(arguments)

  from mnv3_jax.data.images import open_image

  photos = [open_image(path) for path in given.images]
  start_jax()
  import jax

  from mnv3_jax.models import inference
  from mnv3_jax.training import trained

  run = trained.load(given.workdir, given.weights)
  dataset = run.job.dataset
  x = np.stack([dataset.prepare(photo) for photo in photos])
  probabilities = np.asarray(jax.nn.softmax(inference.logits(run.job.model, run.variables, x)))
  found = [
    {"image": path, "top": top_classes(p, dataset.classes, given.top)}
    for path, p in zip(given.images, probabilities, strict=True)
  ]
  if given.json:
    print_json(found)
    return
  for photo in found:
    print(photo["image"])
    for c in photo["top"]:
      print(f"  {c['probability']:6.1%}  {c['label']}")


def top_classes(probabilities, classes, k):
  """The `k` likeliest of probabilities (classes,), as a list of {"index", "label", "probability"}."""
  best = np.argsort(-probabilities, kind="stable")[:k]
  names = [classes[i] if i < len(classes) else f"class {i}" for i in range(len(probabilities))]
  return [{"index": int(i), "label": names[i], "probability": float(probabilities[i])} for i in best]
