"""mnv3 search: searches an architecture for a latency."""

import io
from typing import Any

from mnv3_jax.commands.options import Options, add_device, check_android, device_arguments, positive, print_json, start_jax
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 search netadapt --init runs/small --workdir runs/search --table table.json --target_ratio 0.7
  mnv3 search platform_aware --config fashion_mnist --workdir runs/mnas --table table.json --target_ms 0.5 --measure
  mnv3 search netadapt --help        (the options of each method)"""
NETADAPT = """mnv3 search netadapt --init runs/small --workdir runs/search --table table.json --target_ratio 0.7
  mnv3 train --config runs/search/config.py --workdir runs/searched    (the network that it found, from scratch)
  The same command again goes on where it was stopped. --jobs 4 or --engine slurm --jobs 4 starts four processes that make one
  search together, on a file system that they share; so does the same command, started four times.
  The table:   mnv3 latency_table mobilenetv3_small --resolution=32 --num_classes=10 --out table.json
  The seed:    mnv3 train --config configs/fashion_mnist.py --config.data.train_split=train[:90%] --workdir runs/small"""
PLATFORM_AWARE = """mnv3 search platform_aware --config fashion_mnist:mnasnet_a1 --workdir runs/mnas \\
    --table table.json --target_ms 0.5 --measure --samples 60 --epochs 3
  mnv3 train --config runs/mnas/config.py --workdir runs/best    (the network of the best reward, in full; top/ has others)
  The same command again goes on where it was stopped; with more --samples it continues.
  The table:   mnv3 latency_table mnasnet_a1 --space mnasnet --grid 2 --resolution=32 --num_classes=10 --out table.json
  --config.FIELD=VALUE changes both trainings, --proxy.FIELD=VALUE those of the samples alone: --proxy.optim.ema=0.99"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 search --help."""
  methods = {"netadapt": netadapt, "platform_aware": platform_aware}
  first = arguments[0] if arguments else ""
  if first in methods:
    methods[first](arguments[1:])
    return
  if first not in ("-h", "--help"):
    raise UsageError(f"search: invalid method={first!r}; expected {' or '.join(methods)}, before all options")
  what = (
    "netadapt         cuts a trained network down to a latency, step by step (section 4.2 of the paper)\n"
    "platform_aware   samples networks of MnasNet's space by accuracy and latency, from scratch (section 4.1)"
  )
  options = Options("search", what, EXAMPLE)
  options.add_argument("method", choices=tuple(methods), help="each has options of its own")
  options.parse(arguments)


def netadapt(arguments: list[str]) -> None:
  """Runs NetAdapt; see mnv3 search netadapt --help."""
  what = (
    "netadapt cuts a trained network down to a latency, step by step: one expansion or one bottleneck at a time, that which\n"
    "loses least accuracy for a millisecond (section 4.2 of the paper). All proposals run in one compiled training step."
  )
  options = Options("search netadapt", what, NETADAPT)
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
  _add_engine(options, "processes", "that make the search together (this one; ray, slurm: 1)")
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
      engine=given.engine,
      jobs=given.jobs,
      cpus=given.cpus,
      gpus=given.gpus,
      sbatch=given.sbatch or "",
      on_message=_silent if given.json else _print,
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


def platform_aware(arguments: list[str]) -> None:
  """Runs the platform-aware search; see mnv3 search platform_aware --help."""
  options = _platform_aware_options()
  given, words = options.parse_known(arguments)
  overrides = [word for word in words if word.startswith("--config.")]
  proxy_words = [f"--config.{word.removeprefix('--proxy.')}" for word in words if word.startswith("--proxy.")]
  options.refuse([word for word in words if not word.startswith(("--config.", "--proxy."))])
  check_android(given)
  from mnv3_jax.config import value
  from mnv3_jax.config_overrides import read_config

  config = read_config(given.config, overrides)
  # parsed as fields of a config
  short = read_config(given.config, [*overrides, *proxy_words])
  names = [word.removeprefix("--config.").partition("=")[0] for word in proxy_words]
  start_jax()
  from mnv3_jax.latency.devices import open_device
  from mnv3_jax.search.run_platform_aware import platform_aware

  with options.naming_flags():
    result = platform_aware(
      config,
      given.workdir,
      table=given.table,
      target_ms=given.target_ms,
      samples=given.samples,
      epochs=given.epochs,
      proxy={name: value(short, name) for name in names},
      reward=given.reward,
      weight=given.weight,
      space=given.space,
      sampler=given.sampler,
      seed=given.seed,
      batch=given.batch,
      top=given.top,
      measure=open_device(**device_arguments(given)) if given.measure else False,
      engine=given.engine,
      jobs=given.jobs,
      cpus=given.cpus,
      gpus=given.gpus,
      sbatch=given.sbatch or "",
      on_message=_silent if given.json else _print,
      quiet=given.json,
    )
  if given.json:
    print_json(result)
    return
  print(_summary(result))
  print(f"train it: mnv3 train --config {given.workdir}/config.py --workdir DIR")


def _platform_aware_options() -> Options:
  what = (
    "platform_aware samples networks of MnasNet's factorized hierarchical space (operation, kernel, squeeze-excite, skip,\n"
    "filters and layers of seven stages), trains each for a few epochs, and looks for the best reward of accuracy on held-out\n"
    "training examples and predicted latency (section 4.1 of the paper)."
  )
  options = Options("search platform_aware", what, PLATFORM_AWARE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="full training: a file or a name of configs/")
  options.add_argument("--workdir", required=True, metavar="DIR", help="directory of the search; created if it does not exist")
  options.add_argument("--table", required=True, metavar="FILE", help="latency table, from mnv3 latency_table or --measure")
  options.add_argument("--target_ms", type=float, required=True, metavar="T", help="target latency, in milliseconds")
  options.add_argument("--samples", type=positive, default=60, metavar="N", help="networks that are trained (60)")
  options.add_argument("--epochs", type=float, default=5.0, metavar="E", help="of the training of a sample (5)")
  options.add_argument("--reward", default="soft", metavar="soft|hard|absolute", help="of accuracy and latency (soft)")
  options.add_argument(
    "--weight", type=float, metavar="W", help="of the soft reward (-0.07; small networks -0.15) or absolute (-0.1)"
  )
  options.add_argument(
    "--space", default="mnasnet", metavar="mnasnet|FILE", help="search space; a file of SearchSpace.write (mnasnet)"
  )
  options.add_argument("--sampler", default="tpe", metavar="tpe|nsga2|random", help="proposes samples (tpe; needs Optuna)")
  options.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler (0)")
  options.add_argument("--batch", type=positive, default=1, metavar="N", help="samples proposed and trained together (1)")
  options.add_argument("--top", type=positive, default=5, metavar="K", help="networks with a config in DIR/top (5)")
  options.add_argument("--measure", action="store_true", help="time units that the table lacks, and add them to it")
  _add_engine(options, "trainings", "of samples at a time (those of a batch)")
  options.add_argument("--json", action="store_true", help="print the content of result.json")
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field of the config")
  options.add_argument("--proxy.SECTION.FIELD", metavar="VALUE", dest="unused_proxy", help="of the samples' trainings alone")
  add_device(options)
  options.only_with("--threads --adb --cores --benchmark_model", "--measure")
  return options


def _add_engine(options: Options, noun: str, which: str) -> None:
  """Adds --engine, --jobs, --cpus, --gpus and --sbatch; `noun` is that of what the engine runs, in the plural."""
  options.add_argument("--engine", default="local", metavar="local|ray|slurm", help=f"where {noun} run (local)")
  options.add_argument("--jobs", type=positive, metavar="N", help=f"number of {noun} {which}")
  options.add_argument("--cpus", type=positive, metavar="N", help=f"CPUs of one of the {noun} (ray, slurm)")
  options.add_argument("--gpus", type=int, metavar="N", help=f"GPUs of one of the {noun}; local: an equal share")
  options.add_argument("--sbatch", metavar="OPTIONS", help="further options of sbatch, as one text (slurm)")
  options.only_with("--cpus", "--engine ray|slurm")
  options.only_with("--sbatch", "--engine slurm")


def _summary(result: dict[str, Any]) -> str:
  """Formats the result of a platform-aware search: the Pareto front, then the network of the best reward."""
  from mnv3_jax.report.text_table import aligned

  metric = result["metric"]
  by_number = {sample["sample"]: sample for sample in result["samples"]}
  front = [by_number[number] for number in result["front"]]
  rows = [[str(s["sample"]), f"{s['latency_ms']:.4g}", f"{s[metric]:.4f}", f"{s['reward']:.4f}"] for s in front]
  table = aligned(["sample", "ms", metric, "reward"], rows)
  best = f"best reward: sample {result['top'][0]}, {result['latency_ms']:.4g} ms (target {result['target_ms']:.4g})"
  return f"{result['table']}\n\nPareto front:\n{table}\n\n{best}"


def _print(line: str) -> None:
  print(line, flush=True)


def _silent(line: str) -> None:
  pass
