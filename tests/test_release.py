"""Files that name the version agree with the package."""

import re

from conftest import ROOT

import mnv3_jax


def test_the_citation_and_the_changelog_name_the_version():
  assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)[1] == mnv3_jax.__version__
  assert f"\n## {mnv3_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
