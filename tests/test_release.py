"""Files that a release is made of agree with each other and with the package."""

import datetime
import re
import tomllib

import yaml
from conftest import ROOT

import mnv3_jax

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
NOT_RELEASED = "not released yet"
# keys of https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema.json that are used here
REQUIRED = {"cff-version", "message", "title", "authors"}
KEYS = {*REQUIRED, "type", "version", "date-released", "license", "repository-code", "keywords", "references"}


def released() -> tuple[str, str]:
  """Returns version and date of the changelog's first entry."""
  return re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0].split(", ")


def test_the_citation_and_the_changelog_name_the_version():
  assert CITATION["version"] == released()[0] == mnv3_jax.__version__
  assert re.fullmatch(r"\d+\.\d+\.\d+", mnv3_jax.__version__)


def test_the_citation_has_the_date_of_the_changelog():
  date = CITATION.get("date-released", NOT_RELEASED)
  assert str(date) == released()[1] and (date == NOT_RELEASED or isinstance(date, datetime.date))


def test_the_citation_has_the_keys_of_its_format():
  assert REQUIRED <= set(CITATION) <= KEYS
  assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
  assert CITATION["license"] == PROJECT["license"] and CITATION["repository-code"] == PROJECT["urls"]["Repository"]
  assert [author["name"] for author in CITATION["authors"]] == [author["name"] for author in PROJECT["authors"]]
  for reference in CITATION["references"]:
    assert {"authors", "title", "type"} <= set(reference)
    assert all({"family-names", "given-names"} == set(author) for author in reference["authors"])


def test_the_classifiers_are_the_pythons_of_requires_python():
  from packaging.specifiers import SpecifierSet

  allowed = SpecifierSet(PROJECT["requires-python"])
  minors = [int(c.rsplit(".", 1)[1]) for c in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", c)]
  assert minors == list(range(minors[0], minors[-1] + 1))
  assert all(f"3.{minor}" in allowed for minor in minors) and f"3.{minors[0] - 1}" not in allowed


def test_the_pinned_jax_of_every_python_is_one_that_the_package_allows():
  from packaging.requirements import Requirement

  (allowed,) = (r.specifier for r in map(Requirement, PROJECT["dependencies"]) if r.name == "jax")
  pins = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("jax==")]
  for classifier in PROJECT["classifiers"]:
    if re.search(r":: Python :: 3\.\d+$", classifier):
      (pin,) = (p for p in pins if p.marker and p.marker.evaluate({"python_version": classifier.rsplit(" ", 1)[1]}))
      (version,) = pin.specifier
      assert version.version in allowed
