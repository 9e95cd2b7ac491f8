"""mnv3 predict: predicts the class of images, or of every pixel."""

from mnv3_jax.commands.options import Options, add_workdir, positive, print_json, start_jax

EXAMPLE = """mnv3 predict --workdir /tmp/run shoe.png coat.jpg --top 3
  mnv3 predict --workdir /tmp/scenes street.jpg --out painted    (painted/street_mask.png, painted/street_overlay.png)"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 predict --help."""
  what = "Predicts images: the most probable classes; for segmentation a class for every pixel."
  options = Options("predict", what, EXAMPLE)
  add_workdir(options)
  options.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG, any size, grey or colour")
  options.add_argument("--top", type=positive, metavar="K", help="classification: number of classes to name (5)")
  options.add_argument("--out", metavar="DIR", help="segmentation: directory for masks and overlays (predictions)")
  options.add_argument(
    "--json",
    action="store_true",
    help="print a list of {image, top: [{index, label, probability}]}; for segmentation {image, mask, overlay, classes}",
  )
  given = options.parse(arguments)
  from mnv3_jax.data.transforms.decoding import open_image

  with options.naming_flags():
    # damaged images are reported before a network is loaded
    for path in given.images:
      open_image(path)
    start_jax()
    from mnv3_jax.training.prediction import predict
    from mnv3_jax.training.trained import load

    run = load(given.workdir, given.weights)
    out = given.out or run.task.prediction_dir
    predictions = predict(run, given.images, top=given.top, out=out)
  if given.json:
    print_json([prediction.to_dict() for prediction in predictions])
    return
  for prediction in predictions:
    print("\n".join(prediction.lines()))
