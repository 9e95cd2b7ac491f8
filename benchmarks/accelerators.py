"""Trainings compiled for TPU slices that are not there: memory, estimated time and bounds.

python benchmarks/accelerators.py [--cases classification,...] [--out FILE.json]

Each case takes minutes; libtpu must be installed (pip install 'mnv3_jax[tpu]'). Nothing runs on a TPU.
"""

import argparse
import datetime
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

from speed import several

import mnv3_jax

HERE = pathlib.Path(__file__).parent
OUT = HERE / "results" / "accelerators.json"
# of the first case
CHART = HERE.parent / "experiments" / "results" / "tpu" / "mobilenetv3_small_v5e.png"
# name: (config, topology, fields)
CASES: dict[str, tuple[str, str, dict[str, object]]] = {
  "small": ("imagenet:mobilenetv3_small", "v5e:2x4", {"train.batch_size": 1024}),
  "large": ("imagenet:mobilenetv3_large", "v5e:4x8", {}),
  "segmentation": ("cityscapes:mobilenetv3_large", "v5e:2x2", {}),
  "detection": ("coco_google:mobilenetv3_large", "v5e:2x4", {}),
}


def compiled(name: str) -> dict[str, Any]:
  """Compiles a case and returns its figures."""
  config, topology, fields = CASES[name]
  found = mnv3_jax.compile_for(mnv3_jax.get_config(config, fields), topology, on_message=print)
  print(f"\n{found}\n", flush=True)
  if name == "small":
    found.draw(CHART)
  versions = {package: metadata.version(package) for package in ("jax", "libtpu")}
  case = {"case": name, "config": config, "fields": fields, "date": str(datetime.date.today()), "versions": versions}
  return {**case, **found.to_dict()}


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """Formats results as Markdown: one line for each case."""
  lines = [
    "| config | slice | images a device | memory of a device, GiB | step, ms | images/s a device | bound by | evaluation, ms | "
    "whole training, h |"
  ]
  lines.append("|---" * 9 + "|")
  for r in results:
    used = sum(r["memory"][part] for part in ("arguments", "temporaries", "other"))
    cells = [
      f"`{r['config']}`",
      f"{r['topology']}, {r['devices']} devices",
      r["batch_size"] // r["devices"],
      f"{used / 2**30:.2f} of {r['memory']['limit'] / 2**30:.2f}",
      f"{r['step_ms']:.1f}",
      f"{r['images_per_second_per_device']:,.0f}",
      f"{r['bound']} ({r['bound_ms'][r['bound']]:.1f} ms)",
      f"{r['evaluation']['step_ms']:.1f} for {r['evaluation']['batch_size'] // r['devices']} images",
      f"{r['hours']:.1f}",
    ]
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return "\n".join(lines)


def versions(results: Sequence[Mapping[str, Any]]) -> str:
  """Returns the versions with which results were compiled, as text."""
  return ", ".join(sorted({f"{name} {version}" for r in results for name, version in r["versions"].items()}))


def section() -> str:
  """Returns the table of the kept results with their versions."""
  results = json.loads(OUT.read_text())
  dates = sorted({r["date"] for r in results})
  return f"{table(results)}\n\nEstimates of XLA, {versions(results)}; {' and '.join(dates)}.\n"


def keep(
  about: str,
  out: pathlib.Path,
  cases: Sequence[str],
  compiled: Callable[[str], dict[str, Any]],
  table: Callable[[Sequence[Mapping[str, Any]]], str],
) -> list[dict[str, Any]]:
  """Runs a command line: compiles cases and keeps their results, each as soon as it is there.

  Args:
    about: text of --help.
    out: a JSON file, in which results of other cases stay.
    cases: names of all cases, in their order.
    compiled: compiles a case.
    table: formats the results.

  Returns:
    All kept results.
  """
  parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--cases", type=several(cases), default=list(cases), help=f"of {','.join(cases)}")
  parser.add_argument("--out", type=pathlib.Path, default=out, help="a JSON file, in which other cases stay")
  given = parser.parse_args()
  kept = {r["case"]: r for r in json.loads(given.out.read_text())} if given.out.is_file() else {}
  for name in given.cases:
    kept[name] = compiled(name)
    given.out.write_text(json.dumps([kept[case] for case in cases if case in kept], indent=1) + "\n")
  results = [kept[case] for case in cases if case in kept]
  print(table(results))
  return results


if __name__ == "__main__":
  keep(str(__doc__), OUT, list(CASES), compiled, table)
