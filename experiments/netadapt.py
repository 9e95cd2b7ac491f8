"""Finished NetAdapt searches beside trained networks: metric over predicted latency, as a plot and as numbers.

Command:  python experiments/netadapt.py --searches runs/search --table table.json --runs runs/width_* runs/searched_* --measure
          python experiments/netadapt.py            draws the kept results, and writes their table into the docs

The runs are trained networks of the same task, for example the seed at smaller widths, and the search's config.py from scratch:
mnv3 train --config configs/fashion_mnist.py --config.model.width=0.75 --workdir runs/width_0
Those of one network, with several seeds, are one row. Their metrics are those on the test examples; the path of a search has
those on its held-out examples. Latencies are predictions of one table, without the drift that a search has measured; --measure
times each network on this machine as a whole, in turn with the seed of the first search.
"""

import argparse
import itertools
import json
import pathlib
import shutil
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import section

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.devices import open_device
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.report import search_plots
from mnv3_jax.report.text_table import aligned, markdown_table
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.progress import duration
from mnv3_jax.runs.run import Run
from mnv3_jax.search.directory import SearchDirectory
from mnv3_jax.search.retiming import Retiming
from mnv3_jax.tasks import job as jobs

KEPT = pathlib.Path(__file__).parent / "results" / "netadapt"
FIGURES, PLOT = "figures.json", "path.png"
BEGIN, END = "<!-- from experiments/netadapt.py -->\n", "<!-- end of netadapt -->\n"


def collect(
  searches: Sequence[pathlib.Path], table: pathlib.Path, runs: Sequence[pathlib.Path], measure: bool = False
) -> dict[str, Any]:
  """Returns the content of figures.json.

  Args:
    searches: directories of finished searches with NetAdapt, from one seed.
    table: file of a latency table with the units of all networks.
    runs: run directories of trained networks.
    measure: whether whole networks are timed on this machine.

  Raises:
    UsageError: for a search or a run that is not finished, another metric, or a table of another device or without the units.
  """
  latencies = LatencyTable.read(table)
  results = [_result(search, latencies) for search in searches]
  metric, first = results[0]["metric"], results[0]
  config = load_config(str(searches[0] / "config.py"))
  job = jobs.from_config(config)
  values = {**config.model, "num_classes": job.architecture.num_classes, "channels": None}
  seed, retiming = fields.architecture(**values), None
  if measure:
    retiming = Retiming(seed, open_device(threads=latencies.about["threads"]), 0)

  def point(architecture: Architecture) -> dict[str, float]:
    ms = predict_searched_latency(architecture, latencies)
    timed = retiming.measure(architecture, ms / first["seed_ms"]) if retiming else {}
    return {"ms": ms, **({"measured_ratio": timed["ratio"]} if timed else {})}

  networks: dict[Architecture, dict[str, Any]] = {}
  for run in runs:
    architecture, name, value = _trained(run, metric)
    networks.setdefault(architecture, {"names": [], "tests": []})
    networks[architecture]["names"].append(name)
    networks[architecture]["tests"].append(value)
  return {
    **{name: latencies.about[name] for name in ("device", "runtime", "threads")},
    "model": first["model"],
    "metric": metric,
    "label": job.task.metric_label,
    "seed": {"ms": first["seed_ms"], "test": first["test"]["seed"][metric]},
    "searches": {
      search.name: {**_path(result, values, latencies), "test": result["test"]["result"][metric]}
      for search, result in zip(searches, results, strict=True)
    },
    "runs": {_common(found["names"]): {**point(net), "tests": found["tests"]} for net, found in networks.items()},
  }


def _result(search: pathlib.Path, latencies: LatencyTable) -> dict[str, Any]:
  """Returns result.json of a finished search on the device of the table."""
  result = SearchDirectory(search).result()
  if not result or "channels" not in result:
    raise UsageError(f"invalid search={str(search)!r}; expected the directory of a finished mnv3 search netadapt")
  if latencies.about["device"] != result["device"]:
    raise UsageError(f"invalid table of {latencies.about['device']!r}; expected that of {result['device']!r}")
  return result


def _path(result: dict[str, Any], values: dict[str, Any], latencies: LatencyTable) -> dict[str, Any]:
  """Returns milliseconds and held-out metric after each step of a search, its target and its seconds."""
  path = [{"ms": result["seed_ms"], "held_out": step["control"]} for step in result["steps"][:1]]
  for step in result["steps"]:
    ms = predict_searched_latency(fields.architecture(**{**values, "channels": step["channels"]}), latencies)
    path.append({"ms": ms, "held_out": step[result["metric"]]})
  timed = {"measured_ratio": result["measured"]["ratio"]} if "measured" in result else {}
  return {"target_ms": result["target_ms"], **timed, "seconds": result["seconds"], "path": path}


def _trained(workdir: pathlib.Path, metric: str) -> tuple[Architecture, str, float]:
  """Returns network, name and test metric of a finished run."""
  run = Run(workdir)
  by_weights = ((run.result or {}).get("metrics") or {}).get("test", {})
  values = by_weights.get("ema") or by_weights.get("raw") or {}
  if metric not in values:
    raise UsageError(f"invalid runs={str(workdir)!r}; expected a finished run with the metric {metric!r} on test examples")
  return jobs.from_config(run.config).architecture, workdir.name, values[metric]


def _common(names: Sequence[str]) -> str:
  """Returns the name of several runs of one network: the beginning that theirs share."""
  first, last = min(names), max(names)
  shared = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
  return shared.rstrip("_-") or names[0]


def draw(found: dict[str, Any], folder: pathlib.Path) -> None:
  """Draws the plot."""
  paths = {name: [(point["ms"], point["held_out"]) for point in each["path"]] for name, each in found["searches"].items()}
  ends = [(found["seed"]["ms"], found["seed"]["test"])]
  ends += [(each["path"][-1]["ms"], each["test"]) for each in found["searches"].values()]
  runs = {name: (run["ms"], run["tests"]) for name, run in found["runs"].items()}
  title = f"{found['model']}: NetAdapt and trained networks\n{found['device']}, threads: {found['threads']}"
  search_plots.search_and_runs(paths, ends, runs, folder / PLOT, title, found["label"])


def rows(found: dict[str, Any]) -> list[list[str]]:
  """Returns the rows of the table: network, predicted ms, measured latency over the seed's, test metric."""
  seed = found["seed"]
  lines = [["seed", f"{seed['ms']:.4g}", "1", f"{seed['test']:.4f}"]]
  for name, each in found["searches"].items():
    label = f"{name}, {len(each['path']) - 1} steps in {duration(each['seconds'])}, not retrained"
    lines.append([label, f"{each['path'][-1]['ms']:.4g}", _measured(each), f"{each['test']:.4f}"])
  for name, run in found["runs"].items():
    spread = f" ± {statistics.stdev(run['tests']):.4f} ({len(run['tests'])} seeds)" if len(run["tests"]) > 1 else ""
    lines.append([f"{name}, trained", f"{run['ms']:.4g}", _measured(run), f"{statistics.mean(run['tests']):.4f}{spread}"])
  return lines


def _measured(each: dict[str, Any]) -> str:
  return f"{each['measured_ratio']:.3f}" if "measured_ratio" in each else ""


def headers(found: dict[str, Any]) -> list[str]:
  """Returns the headers of the table."""
  return ["network", "predicted ms", "measured, of the seed's", f"test {found['label']}"]


def keep(searches: Sequence[pathlib.Path], out: pathlib.Path) -> None:
  """Copies the small files of searches."""
  for search in searches:
    (out / search.name).mkdir(parents=True, exist_ok=True)
    for file in ("search.json", "result.json"):
      shutil.copy(search / file, out / search.name / file)


def rendered(text: str) -> str:
  """Returns a page's text with the table as it should be."""
  found = read_json(KEPT / FIGURES)
  return section.put(text, BEGIN, END, markdown_table(headers(found), rows(found)) + "\n")


def main(arguments: Sequence[str]) -> int:
  """Runs the command line."""
  summary_line, _, details = (__doc__ or "").partition("\n\n")
  options = argparse.ArgumentParser(
    prog="python experiments/netadapt.py",
    description=summary_line,
    epilog=details,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  options.add_argument("--searches", type=pathlib.Path, nargs="*", default=[], metavar="DIR", help="directories of searches")
  options.add_argument("--table", type=pathlib.Path, metavar="FILE", help="latency table")
  options.add_argument("--runs", type=pathlib.Path, nargs="*", default=[], metavar="DIR", help="run directories")
  options.add_argument("--measure", action="store_true", help="time whole networks on this machine")
  options.add_argument("--out", type=pathlib.Path, default=KEPT, metavar="DIR", help="of figures.json and path.png")
  given = options.parse_args(arguments)
  if (not given.searches) != (given.table is None):
    options.error("expected both --searches DIR and --table FILE, or none of them")
  if given.searches:
    figures = collect(given.searches, given.table, given.runs, given.measure)
    write_atomically(given.out / FIGURES, json.dumps(figures, indent=2) + "\n")
    keep(given.searches, given.out)
  elif not (given.out / FIGURES).is_file():
    options.error(f"no kept results in {given.out}; expected the directories of searches")
  found = read_json(given.out / FIGURES)
  draw(found, given.out)
  print(aligned(headers(found), rows(found)))
  if given.out == KEPT:
    section.write(rendered)
  return 0


if __name__ == "__main__":
  from mnv3_jax.__main__ import end

  end(lambda: main(sys.argv[1:]))
