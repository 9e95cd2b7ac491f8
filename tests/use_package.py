"""Uses an installed package as its users do: the Python API and the command line, in the empty current directory.

python -P tests/use_package.py
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

import mnv3_jax as mnv3

ROOT = pathlib.Path(__file__).parents[1]


def command(*words):
  """Returns what a command prints; it runs with the flags and the modules of this process."""
  flags = [f"-{letter}" for letter, on in (("S", sys.flags.no_site), ("P", sys.flags.safe_path)) if on]
  words = [sys.executable, *flags, *(f"-W{option}" for option in sys.warnoptions), "-m", "mnv3_jax", *words]
  return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
  assert pathlib.Path(mnv3.__file__).parents[1] != ROOT, mnv3.__file__
  assert not os.listdir()
  assert command("--version") == f"mnv3_jax {mnv3.__version__}\n" and "predict" in command("--help")
  assert "2,542,856" in command("summary", "mobilenetv3_small")
  assert "mobilenetv3_small" in mnv3.list_models("*small*")
  model, variables = mnv3.create_model("mobilenetv3_small", num_classes=10, resolution=32, width=0.05, width_rule="slim")
  assert model.apply(variables, np.zeros((2, 32, 32, 3))).shape == (2, 10)

  short = {"train.epochs": 1.0, "train.batch_size": 64, "data.train_split": "train[:256]", "data.eval_split": "test[:100]"}
  config = mnv3.get_config("fashion_mnist", short, model_width=0.05, model_width_rule="slim")
  assert next(mnv3.open_dataset(config).train_batches(0))["image"].shape == (64, 32, 32, 3)
  run = mnv3.train(config, "run")
  metrics = mnv3.evaluate(run)
  assert metrics["count"] == 100 and metrics["top1"] == run.result["metrics"]["test"]["ema"]["top1"], metrics
  Image.new("L", (28, 28)).save("black.png")
  print(mnv3.predict(run, "black.png").lines())
  for file, quantize in (("small.tflite", "none"), ("int8.tflite", "int8")):
    exported = mnv3.export(run, file, quantize=quantize)
    assert exported.file.is_file() and exported.accuracy is not None
  table = mnv3.build_table("table5")
  assert {row.name: row.params for row in table.rows}["V3-Large 1.0"] == 5_483_032, table
  print("all of it works")


if __name__ == "__main__":
  main()
