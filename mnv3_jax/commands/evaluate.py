"""mnv3 evaluate: evaluates a run on every test example."""

import argparse

from mnv3_jax.commands.given_run import add_run, check_run, load_run
from mnv3_jax.commands.options import Options, print_json, start_jax
from mnv3_jax.memory import keep_freed_memory

EXAMPLE = """mnv3 evaluate --workdir /tmp/run --weights=raw
  mnv3 evaluate --workdir /tmp/large --data imagenet/val
  mnv3 evaluate --weights timm/mobilenetv3_large_100.ra_in1k --data imagenet/val
  mnv3 evaluate --workdir /tmp/scenes --flip --scales 0.75,1,1.25"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 evaluate --help."""
  options = Options("evaluate", "Evaluates a run on every test example, each counted once.", EXAMPLE)
  add_run(options)
  options.add_argument(
    "--data",
    metavar="DIR",
    help="test images instead of the run's own: one folder per class; for segmentation in the layout of config.data.dir",
  )
  options.add_argument("--flip", action="store_true", help="segmentation: average over images and their mirror images")
  options.add_argument(
    "--scales", type=scales, metavar="S,S,...", help="segmentation: average over scales of the image, e.g. 0.75,1,1.25 (1)"
  )
  options.add_argument("--json", action="store_true", help="print JSON")
  given = options.parse(arguments)
  check_run(options, given)
  start_jax()
  keep_freed_memory()
  from mnv3_jax.training.evaluation import evaluate

  with options.naming_flags():
    run = load_run(given)
    metrics = evaluate(run, data=given.data, flip=given.flip, scales=given.scales, progress=True)
  if given.json:
    print_json({"model": run.architecture.name, "step": run.step, "weights": run.weights, **metrics})
    return
  print(f"{run.architecture.name}, {run.weights} weights of step {run.step:,}, {metrics['count']:,} examples")
  print("\n".join(run.task.lines(metrics)))


def scales(text: str) -> tuple[float, ...]:
  """argparse type: numbers separated by commas."""
  try:
    return tuple(float(word) for word in text.split(","))
  except ValueError:
    raise argparse.ArgumentTypeError(f"invalid value {text!r}; expected numbers separated by commas") from None
