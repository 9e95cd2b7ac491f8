"""One latency table, two processes that time different networks at once."""

import json
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT, tiny_architecture

from mnv3_jax.architectures import units
from mnv3_jax.latency.latency_table import LatencyTable

WRITER = """
import sys
sys.path[:0] = [f"{sys.argv[1]}/tests", f"{sys.argv[1]}/tests/latency"]
from conftest import tiny_architecture
from test_latency_table import Clockwork, unit_files
from mnv3_jax.architectures import units
from mnv3_jax.latency import latency_table
unit_files.MAX_COPIES, latency_table.BATCH = 2, 1
table = latency_table.LatencyTable.open(sys.argv[2], Clockwork())
assert table.fill(units.distinct(tiny_architecture(resolution=int(sys.argv[3])))) == []
"""


@pytest.mark.slow
def test_tables_of_two_networks_in_one_file(tmp_path):
  """The units of both are there, each timed three times; what one process has added is no loss of the other's."""
  file = tmp_path / "table.json"
  words = [sys.executable, "-c", WRITER, str(ROOT), str(file)]
  writers = [subprocess.Popen([*words, str(size)]) for size in (16, 24)]
  assert [writer.wait(timeout=200) for writer in writers] == [0, 0]
  table = LatencyTable.read(file)
  wanted = [unit for size in (16, 24) for unit in units.distinct(tiny_architecture(resolution=size))]
  assert all(table.rounds(unit) >= 3 for unit in wanted)
  assert json.loads(file.read_text())["units"].keys() == {unit.key for unit in wanted} | {"empty"}
  assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ["table.json"]
