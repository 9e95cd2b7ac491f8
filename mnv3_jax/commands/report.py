"""mnv3 report: writes a report about a run."""

from mnv3_jax.commands.options import Options, add_workdir, start_jax

EXAMPLE = "mnv3 report --workdir /tmp/run --tflite small.tflite --out /tmp/report"


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 report --help."""
  what = "Writes report.md with the metrics of a run and of its .tflite file, a learning curve and predictions."
  options = Options("report", what, EXAMPLE)
  add_workdir(options)
  options.add_argument("--tflite", required=True, metavar="FILE", help="file exported from the run")
  options.add_argument("--out", required=True, metavar="DIR", help="directory to write to; made if it does not exist")
  given = options.parse(arguments)
  start_jax()
  from mnv3_jax.deploy.report import report

  with options.naming_flags():
    written = report(given.workdir, given.tflite, given.out, weights=given.weights)
  for name, value in written.rows:
    print(f"{name:<26} {value}")
  print(f"\nreport          {written.directory / 'report.md'}")
  print(f"learning curve  {written.directory / 'learning_curve.png'}")
  print(f"predictions     {written.directory / 'predictions.png'}")
  print(f"some images     {written.directory / 'photos'}")
  print(f"network         {given.tflite}")
