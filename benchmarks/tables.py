"""Writes the results that are kept into README.md and benchmarks/README.md: python benchmarks/tables.py."""

import json
import pathlib
import re

import files
import pipeline
import segmentation
import speed
import start

HERE = pathlib.Path(__file__).parent
PLACES = (HERE.parent / "README.md", HERE / "README.md")
TABLES = {name.__name__: name.table for name in (speed, pipeline, start, files, segmentation)}


def section(name):
  """A table and what it was measured on."""
  kept = HERE / "results" / f"{name}_cpu"
  if name == "convolutions":
    return kept.with_suffix(".md").read_text()
  found = json.loads(kept.with_suffix(".json").read_text())
  machine, versions = found["machine"], {}
  for result in found["results"]:
    for figures in result.get("figures", {}).values():
      versions |= figures.get("versions", {})
  said = ", ".join([f"{machine['cores']} cores of {machine['cpu']}", *(f"{n} {v}" for n, v in sorted(versions.items()))])
  return f"{TABLES[name](found['results'])}\n\n{said}; {found['date']}.\n"


def rendered(text):
  """A text with every section between its marks as it should be."""
  return re.sub(
    r"(<!-- from benchmarks/(\w+)\.py -->\n).*?(<!-- end of \2 -->)", lambda m: m[1] + section(m[2]) + m[3], text, flags=re.S
  )


def main():
  """The command line."""
  for place in PLACES:
    place.write_text(rendered(place.read_text()))


if __name__ == "__main__":
  main()
