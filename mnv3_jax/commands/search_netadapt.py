"""mnv3 search netadapt: cuts a trained network down to a latency."""

import io

from mnv3_jax.commands.options import (
  Options,
  add_device,
  add_engine,
  check_android,
  device_arguments,
  engine_arguments,
  line_printer,
  positive,
  print_json,
  start_jax,
)

EXAMPLE = """mnv3 search netadapt --init runs/small --workdir runs/search --table table.json --target_ratio 0.7
  mnv3 train --config runs/search/config.py --workdir runs/searched    (the network that it found, from scratch)
  The same command again goes on where it was stopped. --jobs 4 or --engine slurm --jobs 4 starts four processes that make one
  search together, on a file system that they share; so does the same command, started four times.
  The table:   mnv3 latency_table mobilenetv3_small --resolution=32 --num_classes=10 --out table.json
  The seed:    mnv3 train --config configs/fashion_mnist.py --config.data.train_split=train[:90%] --workdir runs/small"""


def main(arguments: list[str]) -> None:
  """Runs NetAdapt; see mnv3 search netadapt --help."""
  what = (
    "netadapt cuts a trained network down to a latency, step by step: one expansion or one bottleneck at a time, that which\n"
    "loses least accuracy for a millisecond (section 4.2 of the paper). All proposals run in one compiled training step."
  )
  options = Options("search netadapt", what, EXAMPLE)
  options.add_argument("--init", required=True, metavar="DIR", help="run directory of the trained network")
  options.add_argument("--workdir", required=True, metavar="DIR", help="directory of the search; created if it does not exist")
  options.add_argument("--table", required=True, metavar="FILE", help="latency table, from mnv3 latency_table")
  options.add_argument("--target_ms", type=float, metavar="T", help="latency to reach, in milliseconds")
  options.add_argument("--target_ratio", type=float, metavar="R", help="the same as a share of the trained network's latency")
  options.add_argument(
    "--delta", type=float, default=0.01, metavar="D", help="share of that latency which each step saves at least (0.01)"
  )
  options.add_argument("--steps", type=positive, default=200, metavar="N", help="fine-tuning steps of each proposal (200)")
  options.add_argument("--learning_rate", type=float, metavar="X", help="of the fine-tuning (a tenth of the run's peak)")
  options.add_argument(
    "--held_out", type=positive, default=10_000, metavar="N", help="at most so many held-out training examples judge (10000)"
  )
  options.add_argument(
    "--criterion",
    default="ratio",
    metavar="ratio|accuracy",
    help="what the best proposal maximizes (ratio: change over latency)",
  )
  options.add_argument("--weights", default="ema", metavar="ema|raw|best", help="weights of the trained network (ema)")
  options.add_argument("--measure", action="store_true", help="time whole networks too, and correct the table's predictions")
  options.add_argument(
    "--retime_every", type=int, default=10, metavar="K", help="steps between two timings; 0: at the end (10)"
  )
  add_engine(options, "processes", "that make the search together (this one; ray, slurm: 1)")
  options.add_argument("--json", action="store_true", help="print the content of result.json")
  add_device(options)
  options.only_with("--threads --adb --cores --benchmark_model --retime_every", "--measure")
  given = options.parse(arguments)
  check_android(given)
  start_jax()
  if given.jobs or given.engine != "local":
    import jax

    # this process only waits for others, which need the memory of the accelerators
    jax.config.update("jax_platforms", "cpu")
  from mnv3_jax.latency.devices import open_device
  from mnv3_jax.search.progress import StepBar
  from mnv3_jax.search.run import netadapt

  bar = StepBar(io.StringIO() if given.json or given.jobs or given.engine != "local" else None)
  with options.naming_flags(), bar:
    result = netadapt(
      given.init,
      given.workdir,
      table=given.table,
      target_ms=given.target_ms,
      target_ratio=given.target_ratio,
      delta=given.delta,
      steps=given.steps,
      learning_rate=given.learning_rate,
      held_out=given.held_out,
      criterion=given.criterion,
      weights=given.weights,
      measure=open_device(**device_arguments(given)) if given.measure else False,
      retime_every=given.retime_every,
      **engine_arguments(given),
      on_message=line_printer(silent=given.json),
      on_progress=bar,
      quiet=given.json,
    )
  if given.json:
    print_json(result)
    return
  print(result["table"])
  metric = result["metric"]
  seed, found = (result["test"][name][metric] for name in ("seed", "result"))
  print(f"{result['seed_ms']:.4g} to {result['latency_ms']:.4g} ms, test {metric} {seed:.4f} to {found:.4f} before retraining")
  if timed := result.get("measured"):
    print(f"measured: {timed['seed_ms']:.4g} to {timed['result_ms']:.4g} ms, {timed['ratio']:.3f} of the seed's")
  print(f"train it: mnv3 train --config {given.workdir}/config.py --workdir DIR")
