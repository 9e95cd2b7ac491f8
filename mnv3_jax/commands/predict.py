"""mnv3 predict: predicts the class of images or of every pixel, or boxes."""

import sys

from mnv3_jax.commands.given_run import add_run, check_run, load_run
from mnv3_jax.commands.options import Options, positive, print_json, start_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.memory import keep_freed_memory

EXAMPLE = """mnv3 predict --workdir /tmp/run shoe.png coat.jpg --top 3
  mnv3 predict --weights keras/MobileNetV3Large photo.jpg        (published weights, downloaded the first time)
  mnv3 predict --workdir /tmp/run photos                         (every image in a folder, at any depth)
  curl https://host/shoe.jpg | mnv3 predict --workdir /tmp/run - (an image from standard input)
  mnv3 predict --workdir /tmp/scenes street.jpg --out painted    (painted/street_mask.png, painted/street_overlay.png)
  mnv3 predict --workdir /tmp/detector photos --score 0.5 --json (boxes in pixels, drawn in predictions/NAME_boxes.png)"""


def main(arguments: list[str]) -> int:
  """Runs the verb; see mnv3 predict --help."""
  what = (
    "Predicts images: the most probable classes; for segmentation a class for every pixel; for detection boxes.\n"
    "Images that cannot be read are named, and the others are predicted: exit status 1, and 2 where there are no others."
  )
  options = Options("predict", what, EXAMPLE)
  add_run(options)
  options.add_argument(
    "images", nargs="+", metavar="IMAGE", help="an image of any format, size and mode; a folder of images; - for standard input"
  )
  options.add_argument("--top", type=positive, metavar="K", help="classification: number of classes to name (5)")
  options.add_argument("--score", type=float, metavar="S", help="detection: least score of the boxes (0.3)")
  options.add_argument(
    "--out", metavar="DIR", help="directory for pictures: of segmentation masks and overlays, of detection boxes (predictions)"
  )
  options.add_argument(
    "--coco_results", metavar="FILE", help="detection: file for COCO's results JSON of all images, with boxes of any score"
  )
  options.add_argument(
    "--json",
    action="store_true",
    help="print a list of {image, top: [{index, label, probability}]}; for segmentation {image, mask, overlay, classes}; "
    "for detection {image, detections: [{class_id, name, score, box: [xmin, ymin, xmax, ymax]}]}",
  )
  given = options.parse(arguments)
  check_run(options, given)
  from mnv3_jax.runs.progress import Counter
  from mnv3_jax.training.prediction import picture_paths, predict_each
  from mnv3_jax.training.prediction_images import Stdin, named_images

  skipped = []

  def warn(message: str) -> None:
    print(f"mnv3: {options.with_flags(message)}", file=sys.stderr)

  def skip(message: str) -> None:
    skipped.append(message)
    warn(message)

  predictions = []
  with options.naming_flags():
    named = list(named_images([Stdin() if image == "-" else image for image in given.images], warn))
    if given.score is not None and not 0 <= given.score <= 1:
      raise UsageError(f"invalid score={given.score!r}; expected a number from 0 to 1")
    start_jax()
    keep_freed_memory()
    run = load_run(given)
    out = given.out or run.task.prediction_dir
    paths = picture_paths(named, out) if out else None
    wanted = {"top": given.top, "score": given.score, "out": paths, "coco_results": given.coco_results}
    run.task.check_names([one.name for one in named], **wanted)
    with Counter("images") as counter:
      for prediction in predict_each(run, iter(named), on_skipped=skip, **wanted):
        predictions.append(prediction.to_dict() if given.json else None)
        counter(len(predictions) + len(skipped), len(named))
        if not given.json:
          print("\n".join(prediction.lines()), flush=True)
  if given.json and predictions:
    print_json(predictions)
  return 0 if not skipped else 1 if predictions else 2
