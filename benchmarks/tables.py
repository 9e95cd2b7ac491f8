"""Writes the kept results into the pages of docs/: python benchmarks/tables.py."""

import json
import pathlib
import re

import accelerators
import calibration
import detection_postprocess
import files
import gpu_compile
import host_input
import pipeline
import scaling
import segmentation
import speed
import start
import tpu_convolutions
import tpu_step

HERE = pathlib.Path(__file__).parent
PAGES = tuple(sorted((HERE.parent / "docs").glob("*.md")))
TABLES = {name.__name__: name.table for name in (speed, pipeline, start, files, segmentation, detection_postprocess)}
# those that run on no machine
COMPILED = {
  name.__name__: name.section
  for name in (accelerators, calibration, gpu_compile, host_input, scaling, tpu_convolutions, tpu_step)
}


def section(name: str) -> str:
  """Returns the table of a benchmark with its machine, versions and date."""
  if name in COMPILED:
    return COMPILED[name]()
  path = HERE / "results" / f"{name}_cpu"
  if name == "convolutions":
    return path.with_suffix(".md").read_text()
  found = json.loads(path.with_suffix(".json").read_text())
  machine, versions = found["machine"], {}
  for result in found["results"]:
    for metrics in result.get("figures", {}).values():
      versions |= metrics.get("versions", {})
  about = ", ".join([f"{machine['cores']} cores of {machine['cpu']}", *(f"{n} {v}" for n, v in sorted(versions.items()))])
  return f"{TABLES[name](found['results'])}\n\n{about}; {found['date']}.\n"


def rendered(text: str) -> str:
  """Returns a text with the current table between each pair of marks."""
  return re.sub(
    r"(<!-- from benchmarks/(\w+)\.py -->\n).*?(<!-- end of \2 -->)", lambda m: m[1] + section(m[2]) + m[3], text, flags=re.S
  )


def main() -> None:
  """Runs the command line."""
  for page in PAGES:
    page.write_text(rendered(page.read_text()))


if __name__ == "__main__":
  main()
