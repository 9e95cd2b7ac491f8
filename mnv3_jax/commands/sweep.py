"""mnv3 sweep: runs what a table needs, on this machine, a Ray cluster or SLURM."""

import json
import os
import pathlib
import shlex

from mnv3_jax.commands.options import Options, positive
from mnv3_jax.commands.table import add_runs, asked
from mnv3_jax.errors import UsageError
from mnv3_jax.report.text_table import aligned
from mnv3_jax.runs.progress import duration
from mnv3_jax.tables import scales

EXAMPLE = """mnv3 sweep table5 --scale mini --dry_run                       (what would run, and for how long)
  mnv3 sweep table5 --scale mini --jobs 2                        (again: only what is missing)
  mnv3 sweep table3 --config.data.dir=IMAGENET                   (any field of the config, for every run)
  mnv3 sweep --all --scale imagenet --engine slurm --sbatch="--gres=gpu:1" --config.data.dir=IMAGENET
  mnv3 sweep table5 --engine ray --hosts 4 --config.data.dir=gs://BUCKET/tensorflow_datasets"""

ENGINES = ("local", "ray", "slurm")


def main(arguments):
  """Runs the verb; see mnv3 sweep --help."""
  what = "Runs what a table needs and is not there yet: a trial is a command and a directory, done when its result is there."
  options = Options("sweep", what, EXAMPLE)
  options.add_argument("name", metavar="NAME", nargs="?", help="a table, or a .py file with one; mnv3 table --list has them")
  options.add_argument("--all", action="store_true", help="every table and figure; what they share runs once")
  add_runs(options)
  options.add_argument("--engine", choices=ENGINES, default="local", help="what runs them (local)")
  options.add_argument("--jobs", type=positive, metavar="N", help="trials at once (local: one, or one per GPU; others: as fit)")
  options.add_argument("--dry_run", action="store_true", help="print the plan and change nothing")
  options.add_argument("--retries", type=int, default=3, metavar="N", help="new starts of a trial that was killed (3)")
  options.add_argument(
    "--hosts", type=positive, default=1, metavar="N", help="of each trial (ray, slurm): train --multihost (1)"
  )
  options.add_argument("--cpus", type=positive, metavar="N", help="of a trial on a host (ray, slurm)")
  options.add_argument("--gpus", type=int, metavar="N", help="of a trial on a host; local: an equal share")
  options.add_argument("--sbatch", default=None, metavar="OPTIONS", help="more options for sbatch, as one text (slurm)")
  options.add_argument("--detach", action="store_true", help="leave after the submission (slurm)")
  options.add_argument("--wait_hours", type=float, default=1.0, metavar="H", help="for hosts that are not there (ray; 1)")
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field in every run")
  given, words = options.parse_known_args(arguments)
  options.refuse([word for word in words if not word.startswith("--config.")])
  if given.retries < 0 or (given.gpus or 0) < 0:
    raise UsageError("--retries and --gpus take 0 or more")
  from mnv3_jax.sweeps import launch
  from mnv3_jax.tables.trials import trials

  chosen = asked(given)
  by_scale = {}
  for _, table, scale in chosen:
    by_scale.setdefault(scale, []).append(table)
  configs = check(by_scale, words, given)
  planned = []
  for scale, tables in by_scale.items():
    those = trials(tables, given.runs, scale, given.seeds, [*words, *scale.still_needed(words)])
    refuse_others(those, configs[scale], words)
    planned += those
  if not planned:
    raise UsageError(f"{given.name} has nothing to run: mnv3 table {given.name} --out DIR draws it")
  if given.dry_run:
    print(plan(planned, given))
    return 0
  # of several scales of one name, or of the paper's
  names = list(dict.fromkeys(scale.name for scale in by_scale))
  same = ["--scale", names[0]] if len(names) == 1 else []
  outcomes = launch.run(
    given.engine,
    planned,
    logs=pathlib.Path(given.runs) / "logs" / (names[0] if len(names) == 1 else "paper"),
    jobs=given.jobs,
    retries=given.retries,
    hosts=given.hosts,
    cpus=given.cpus,
    gpus=given.gpus,
    sbatch=given.sbatch or "",
    wait_hours=given.wait_hours,
    detach=given.detach,
  )
  which = "--all" if given.all else given.name
  same += ["--runs", given.runs, *(["--seeds", str(given.seeds)] if given.seeds else [])]
  print(f"the table: {shlex.join(['mnv3', 'table', which, *same])}")
  return launch.status(outcomes)


def check(chosen, words, given):
  """Raises UsageError for what no run or engine can have, before many are started; returns {Scale: config of its runs}."""
  from mnv3_jax.sweeps import launch

  launch.possible(given.engine, given.hosts, given.sbatch or "")
  if pathlib.Path(given.runs).exists() and not pathlib.Path(given.runs).is_dir():
    raise UsageError(f"{given.runs!r} is a file; --runs takes the folder of all runs")
  configs = scales.check_all(chosen, words)
  if any(config.data.fake for config in configs.values()):
    raise UsageError(
      "--config.data.fake=True would leave results of one random batch; mnv3 train measures a model without its data"
    )
  for scale in chosen:
    missing = scale.still_needed(words)
    if missing and not given.dry_run:
      raise UsageError(f"the scale {scale.name} needs {' '.join(missing)}; --scale mini needs nothing")
  return configs


def refuse_others(planned, config, words):
  """Raises UsageError for a trial that is there with another value of a field that is set for all."""
  for trial in planned:
    file = trial.directory / "config.json"
    if not file.is_file():
      continue
    kept = json.loads(file.read_text())
    for word in words:
      field = word.removeprefix("--config.").split("=")[0]
      section, _, name = field.rpartition(".")
      there, wanted = (kept[section] if section else kept).get(name), (config[section] if section else config)[name]
      if there != (list(wanted) if isinstance(wanted, tuple) else wanted):
        raise UsageError(
          f"{str(trial.directory)!r} has config.{field} = {there!r}, here it is {wanted!r}; choose another --runs"
        )


def plan(planned, given):
  """The plan as text: every trial with its state and estimated hours, and where they would run."""
  rows = [
    (t.name, "done" if t.done else "to run", "" if t.done else duration(3600 * t.hours) if t.hours else "not known")
    for t in planned
  ]
  todo = [t for t in planned if not t.done]
  lines = [aligned(("trial", "", "estimated"), rows), ""]
  lines.append(f"{len(planned)} trials, {len(planned) - len(todo)} done, {len(todo)} to run; {where(given)}")
  known = [t.hours for t in todo if t.hours]
  if todo and len(known) == len(todo):
    jobs = min(given.jobs or 1, len(todo)) if given.engine == "local" else given.jobs
    hours = 3600 * sum(known)
    at_once = f", {duration(hours / jobs)} with {jobs} at once" if jobs and jobs > 1 else ""
    lines.append(
      f"estimated from runs that are done: {duration(hours)} one after the other{at_once}; other machines, other times"
    )
  elif todo:
    lines.append("no run of this scale is done yet: nothing to estimate hours from")
  if todo:
    from mnv3_jax.tables.scales import spelt

    lines += ["", "the first:", *(f"  {spelt(command)}" for command in todo[0].commands)]
  return "\n".join(lines)


def where(given):
  """What the trials would have for themselves."""
  if given.engine != "local":
    per = [f"{given.hosts} hosts" if given.hosts > 1 else "1 host"]
    per += [f"{n} {what}" for n, what in ((given.cpus, "CPUs"), (given.gpus, "GPUs")) if n]
    which = f"Ray at {os.environ.get('RAY_ADDRESS', 'this machine')}" if given.engine == "ray" else "SLURM"
    return f"{which}, each trial on {' with '.join(per)}, at once: {given.jobs or 'as many as fit'}"
  from mnv3_jax.sweeps import devices

  shares = devices.shares(given.jobs, given.gpus)
  said = []
  for cores, environment in shares:
    gpus = environment.get("CUDA_VISIBLE_DEVICES")
    said.append(f"GPU {gpus}" if gpus else f"cores {','.join(map(str, cores))}" if cores else "all cores")
  return f"this machine, {len(shares)} at once ({'; '.join(said)})"
