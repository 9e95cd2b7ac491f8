"""mnv3 evaluate: evaluates a run on every test example."""

from mnv3_jax.commands.options import Options, add_workdir, print_json, start_jax

EXAMPLE = "mnv3 evaluate --workdir /tmp/run --weights=raw"


def main(arguments):
  """Runs the verb; see mnv3 evaluate --help."""
  options = Options("evaluate", "Evaluates a run on every test example, each counted once.", EXAMPLE)
  add_workdir(options)
  options.add_argument("--json", action="store_true", help="print JSON")
  given = options.parse(arguments)

  start_jax()
  from mnv3_jax.training import parallel, trained
  from mnv3_jax.training.evaluation import Evaluator

  run = trained.load(given.workdir, given.weights)
  config = run.config
  devices = parallel.MODES[config.train.parallel]()
  figures = Evaluator(run.job, devices, config.evaluate.batch_size)(devices.replicate(run.variables))
  if given.json:
    print_json({"model": run.job.architecture.name, "step": run.step, "weights": run.weights, **figures})
  else:
    print(f"{run.job.architecture.name}, {run.weights} weights of step {run.step:,}, {figures['count']:,} examples")
    print(f"top-1 {figures['top1']:.4f}  top-5 {figures['top5']:.4f}  loss {figures['loss']:.4f}")
