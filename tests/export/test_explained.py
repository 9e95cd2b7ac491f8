"""What each row of an exported file loses: `export(..., explain=True)`."""

import json

import pytest
from conftest import tiny_architecture
from PIL import Image

import mnv3_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.export import row_agreement


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_every_row_has_its_decibels(quantize, tmp_path):
  made = mnv3_jax.export(tiny_architecture(), tmp_path / "m.tflite", quantize=quantize, explain=True)
  found = json.loads((tmp_path / "m.tflite.json").read_text())["rows_db"]
  names = list(found)
  assert (names[0], names[-1]) == ("stem", "features")
  assert min(found.values()) > (80 if quantize == "none" else 10)
  with Image.open(tmp_path / "m.tflite.rows.png") as drawn:
    assert drawn.height > 300
  assert sum("dB are left of features's map" in line for line in made.lines()) == 1


def test_the_rows_that_lose_most_are_named():
  found = {"stem": 40.0, "block_01": 31.0, "block_02": 33.0, "features": 30.5}
  assert row_agreement.losses(found, "int8") == {"block_01": 9.0, "block_02": -2.0, "features": 2.5}
  # a stem in float is no measure of 8 bits
  assert row_agreement.losses({"stem": 130.0, "block_01": 31.0}, "int8") == {"block_01": 9.0}
  assert (
    row_agreement.text(found, "int8") == "30.5 dB are left of features's map; most is lost by block_01 9.0 dB, features 2.5 dB"
  )


def test_another_format_has_no_rows(tmp_path):
  with pytest.raises(UsageError, match="invalid explain=True for format='stablehlo'"):
    mnv3_jax.export(tiny_architecture(), tmp_path / "m.stablehlo", format="stablehlo", explain=True)
  assert not list(tmp_path.iterdir())
