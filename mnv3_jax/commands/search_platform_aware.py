"""mnv3 search platform_aware: samples networks of a search space, by short trainings or the weights of a supernet."""

import argparse
from typing import Any

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
from mnv3_jax.config import value
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError
from mnv3_jax.report.text_table import aligned

EXAMPLE = """mnv3 search platform_aware --config fashion_mnist:mnasnet_a1 --workdir runs/mnas \\
    --table table.json --target_ms 0.5 --measure --samples 60 --epochs 3
  mnv3 train --config runs/mnas/config.py --workdir runs/best    (the network of the best reward, in full; top/ has others)
  The same command again goes on where it was stopped; with more --samples it continues.
  The table:   mnv3 latency_table mnasnet_a1 --space mnasnet --grid 2 --resolution=32 --num_classes=10 --out table.json
  --config.FIELD=VALUE changes both trainings, --proxy.FIELD=VALUE those of the samples alone: --proxy.optim.ema=0.99
  --supernet runs/super --samples 500 takes the weights of a supernet in place of trainings"""
# options of trained samples, of engines, and arguments of searches with and without a supernet
TRAINED = "--config --epochs --space"
ENGINE = "--engine --jobs --cpus --gpus --sbatch"
SHARED = "table target_ms samples reward weight sampler seed batch top train_top"


def main(arguments: list[str]) -> None:
  """Runs the platform-aware search; see mnv3 search platform_aware --help."""
  options = _options()
  given, words = options.parse_known(arguments)
  overrides = [word for word in words if word.startswith("--config.")]
  proxy_words = [f"--config.{word.removeprefix('--proxy.')}" for word in words if word.startswith("--proxy.")]
  options.refuse([word for word in words if not word.startswith(("--config.", "--proxy."))])
  check_android(given)
  if given.supernet:
    _search_supernet(options, given, arguments)
    return
  if not given.config:
    raise UsageError("search platform_aware: the option --config is missing; --supernet DIR is the other choice")
  config = read_config(given.config, overrides)
  # parsed as fields of a config
  short = read_config(given.config, [*overrides, *proxy_words])
  names = [word.removeprefix("--config.").partition("=")[0] for word in proxy_words]
  start_jax()
  from mnv3_jax.search.run_platform_aware import platform_aware

  with options.naming_flags():
    result = platform_aware(
      config,
      given.workdir,
      space=given.space,
      epochs=given.epochs,
      proxy={name: value(short, name) for name in names},
      **_shared(given),
    )
  _print_result(result, given)


def _search_supernet(options: Options, given: argparse.Namespace, arguments: list[str]) -> None:
  """Searches among the networks of a supernet."""
  for word in arguments:
    name = word.partition("=")[0]
    if name in TRAINED.split() or name.startswith(("--config.", "--proxy.")):
      raise UsageError(f"{name} has no effect with --supernet: its networks are not trained, and have its config and space")
    if name in ENGINE.split() and not given.train_top:
      raise UsageError(f"{name} has an effect with --supernet only if --train_top trains networks")
  start_jax()
  from mnv3_jax.search.run_supernet import search_supernet

  with options.naming_flags():
    result = search_supernet(given.supernet, given.workdir, held_out=given.held_out, **_shared(given))
  _print_result(result, given)


def _shared(given: argparse.Namespace) -> dict[str, Any]:
  """Returns the arguments of both searches."""
  from mnv3_jax.latency.devices import open_device

  return {
    **{name: getattr(given, name) for name in SHARED.split()},
    **engine_arguments(given),
    "measure": open_device(**device_arguments(given)) if given.measure else False,
    "on_message": line_printer(silent=given.json),
    "quiet": given.json,
  }


def _options() -> Options:
  what = (
    "platform_aware samples networks of MnasNet's factorized hierarchical space (operation, kernel, squeeze-excite, skip,\n"
    "filters and layers of seven stages), trains each for a few epochs, and looks for the best reward of accuracy on held-out\n"
    "training examples and predicted latency (section 4.1 of the paper)."
  )
  options = Options("search platform_aware", what, EXAMPLE)
  options.add_argument("--config", metavar="FILE[:ARGUMENT]", help="full training: a file or a name of configs/")
  options.add_argument("--supernet", metavar="DIR", help="a supernet, with whose weights samples are evaluated, in its place")
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
  options.add_argument(
    "--train_top", type=int, default=0, metavar="N", help="train the N best networks in full, in DIR/trained (0)"
  )
  options.add_argument(
    "--held_out", type=positive, default=10_000, metavar="N", help="at most so many held-out training examples judge (10000)"
  )
  options.add_argument("--measure", action="store_true", help="time units that the table lacks, and add them to it")
  add_engine(options, "trainings", "of samples at a time (those of a batch)")
  options.add_argument("--json", action="store_true", help="print the content of result.json")
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field of the config")
  options.add_argument("--proxy.SECTION.FIELD", metavar="VALUE", dest="unused_proxy", help="of the samples' trainings alone")
  add_device(options)
  options.only_with("--threads --adb --cores --benchmark_model", "--measure")
  options.only_with("--held_out", "--supernet")
  return options


def _print_result(result: dict[str, Any], given: argparse.Namespace) -> None:
  if given.json:
    print_json(result)
    return
  print(_summary(result))
  print(f"train it: mnv3 train --config {given.workdir}/config.py --workdir DIR")


def _summary(result: dict[str, Any]) -> str:
  """Formats the result of a platform-aware search: the Pareto front, then the network of the best reward."""
  metric = result["metric"]
  by_number = {sample["sample"]: sample for sample in result["samples"]}
  front = [by_number[number] for number in result["front"]]
  rows = [[str(s["sample"]), f"{s['latency_ms']:.4g}", f"{s[metric]:.4f}", f"{s['reward']:.4f}"] for s in front]
  table = aligned(["sample", "ms", metric, "reward"], rows)
  best = f"best reward: sample {result['top'][0]}, {result['latency_ms']:.4g} ms (target {result['target_ms']:.4g})"
  trained = [t for t in result.get("trained", ()) if metric in t]
  lines = [best, *(f"sample {t['sample']}, trained in full: test {metric} {t[metric]:.4f}" for t in trained)]
  return "\n".join([f"{result['table']}\n\nPareto front:\n{table}\n", *lines])
