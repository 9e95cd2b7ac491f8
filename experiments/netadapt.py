"""A finished NetAdapt search beside trained networks: metric over predicted latency, as a plot and as numbers.

Command:  python experiments/netadapt.py runs/search --table table.json --runs runs/width_0.75 runs/width_0.5 runs/searched
          python experiments/netadapt.py            draws and prints the kept results

The runs are trained networks of the same task, for example the seed at smaller widths, and the search's config.py from scratch:
mnv3 train --config configs/fashion_mnist.py --config.model.width=0.75 --workdir runs/width_0.75
Their metrics are those on the test examples; the path of the search has those on its held-out examples. All latencies are
predictions of one table, without the drift that --measure has found.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.report import search_plots
from mnv3_jax.report.text_table import aligned
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.run import Run
from mnv3_jax.search.directory import SearchDirectory
from mnv3_jax.tasks import job as jobs

KEPT = pathlib.Path(__file__).parent / "results" / "netadapt"
FIGURES, PLOT = "figures.json", "path.png"


def collect(search: pathlib.Path, table: pathlib.Path, runs: Sequence[pathlib.Path]) -> dict[str, Any]:
  """Returns the content of figures.json.

  Args:
    search: directory of a finished search with NetAdapt.
    table: file of a latency table with the units of all networks.
    runs: run directories of trained networks.

  Raises:
    UsageError: for a search or a run that is not finished, another metric, or a table of another device or without the units.
  """
  result = SearchDirectory(search).result()
  if not result or "channels" not in result:
    raise UsageError(f"invalid search={str(search)!r}; expected the directory of a finished mnv3 search netadapt")
  latencies = LatencyTable.read(table)
  if latencies.about["device"] != result["device"]:
    raise UsageError(f"invalid table={str(table)!r}, of {latencies.about['device']!r}; expected that of {result['device']!r}")

  def latency(architecture: Architecture) -> float:
    return predict_searched_latency(architecture, latencies)

  metric, config = result["metric"], load_config(str(search / "config.py"))
  job = jobs.from_config(config)
  path = [{"ms": result["seed_ms"], "held_out": step["control"]} for step in result["steps"][:1]]
  for step in result["steps"]:
    config.model.channels, config.model.num_classes = step["channels"], job.architecture.num_classes
    path.append({"ms": latency(jobs.from_config(config).architecture), "held_out": step[metric]})
  tests = {name: result["test"][name][metric] for name in ("seed", "result")}
  return {
    **{name: latencies.about[name] for name in ("device", "runtime", "threads")},
    "model": result["model"],
    "metric": metric,
    "label": job.task.metric_label,
    "target_ms": result["target_ms"],
    "path": path,
    "tests": tests,
    "runs": [_run(run, metric, latency) for run in runs],
  }


def _run(workdir: pathlib.Path, metric: str, latency: Callable[[Architecture], float]) -> dict[str, Any]:
  """Returns the point of a trained network."""
  run = Run(workdir)
  by_weights = ((run.result or {}).get("metrics") or {}).get("test", {})
  values = by_weights.get("ema") or by_weights.get("raw") or {}
  if metric not in values:
    raise UsageError(f"invalid runs={str(workdir)!r}; expected a finished run with the metric {metric!r} on test examples")
  architecture = jobs.from_config(run.config).architecture
  return {"name": workdir.name, "model": architecture.name, "ms": latency(architecture), "test": values[metric]}


def draw(found: dict[str, Any], folder: pathlib.Path) -> None:
  """Draws the plot."""
  path = [(point["ms"], point["held_out"]) for point in found["path"]]
  ends = [(path[0][0], found["tests"]["seed"]), (path[-1][0], found["tests"]["result"])]
  runs = {run["name"]: (run["ms"], run["test"]) for run in found["runs"]}
  title = f"{found['model']}: NetAdapt and trained networks\n{found['device']}, threads: {found['threads']}"
  search_plots.search_and_runs(path, ends, runs, folder / PLOT, title, found["label"])


def summary(found: dict[str, Any]) -> str:
  """Formats the results as a table."""
  ends = zip(("seed", "result before retraining"), (found["path"][0], found["path"][-1]), found["tests"].values(), strict=True)
  rows = [[name, f"{point['ms']:.4g}", f"{test:.4f}"] for name, point, test in ends]
  rows += [[run["name"], f"{run['ms']:.4g}", f"{run['test']:.4f}"] for run in found["runs"]]
  return aligned(["network", "ms", f"test {found['metric']}"], rows)


def main(arguments: Sequence[str]) -> int:
  """Runs the command line."""
  summary_line, _, details = (__doc__ or "").partition("\n\n")
  options = argparse.ArgumentParser(
    prog="python experiments/netadapt.py",
    description=summary_line,
    epilog=details,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  options.add_argument("search", nargs="?", type=pathlib.Path, help="directory of a finished search; none: the kept results")
  options.add_argument("--table", type=pathlib.Path, metavar="FILE", help="latency table")
  options.add_argument("--runs", type=pathlib.Path, nargs="*", default=[], metavar="DIR", help="run directories")
  options.add_argument("--out", type=pathlib.Path, default=KEPT, metavar="DIR", help="of figures.json and path.png")
  given = options.parse_args(arguments)
  if (given.search is None) != (given.table is None):
    options.error("expected both a search and --table FILE, or none of them")
  if given.search is not None:
    write_atomically(given.out / FIGURES, json.dumps(collect(given.search, given.table, given.runs), indent=2) + "\n")
  elif not (given.out / FIGURES).is_file():
    options.error(f"no kept results in {given.out}; expected the directory of a search")
  found = read_json(given.out / FIGURES)
  draw(found, given.out)
  print(summary(found))
  return 0


if __name__ == "__main__":
  from mnv3_jax.__main__ import end

  end(lambda: main(sys.argv[1:]))
