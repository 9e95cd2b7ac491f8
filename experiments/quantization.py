"""Cost of 8 bits on the embedded photos, after training and with quantization-aware training; and the docs' table of it.

python experiments/quantization.py FOLDER   runs everything in FOLDER (about forty minutes on two cores; again: what is missing)
                                            and keeps the figures in experiments/results/quantization.json
python experiments/quantization.py          writes the table anew from these

Every row is a network trained in float, exported as it is, and exported again after a few epochs with fake quantization that
start from it. Accuracies are of the .tflite files, on the 2,000 test photos.
"""

import json
import pathlib
import subprocess
import sys

import section

from mnv3_jax.sweeps.trial import command_line

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "quantization.json"
BEGIN, END = "<!-- from experiments/quantization.py -->\n", "<!-- end of quantization -->\n"

# epochs of float32 training
NETWORKS = {"mobilenetv3_small": 42.0, "mobilenetv3_large": 15.0, "mobilenetv2": 15.0}
KINDS = ("none", "float16", "int8_weights", "int8", "int8_integer")
AWARE_KINDS = ("int8", "int8_integer")


def mnv3(folder: pathlib.Path, *words: str) -> None:
  """Runs a command of the command line."""
  subprocess.run(command_line(["mnv3", *words]), cwd=folder, check=True)


def exported(folder: pathlib.Path, run: str, kinds: tuple[str, ...]) -> dict[str, float]:
  """Exports a run in several kinds and returns {kind: top-1 of the file}."""
  found = {}
  for kind in kinds:
    out = f"{run}/export/{kind}.tflite"
    if not (folder / f"{out}.json").is_file():
      mnv3(folder, "export", "--workdir", run, "--quantize", kind, "--out", out)
    found[kind] = json.loads((folder / f"{out}.json").read_text())["accuracy"]["file"]
  return found


def run(folder: pathlib.Path) -> dict[str, dict[str, dict[str, float]]]:
  """Runs everything and returns {network: {"trained": {kind: top-1}, "aware": {kind: top-1}}}."""
  folder.mkdir(parents=True, exist_ok=True)
  configs, found = ROOT / "configs", {}
  for network, epochs in NETWORKS.items():
    aware = f"{network}_aware"
    mnv3(
      folder,
      "train",
      f"--config={configs / 'fashion_mnist.py'}:{network}",
      f"--workdir={network}",
      f"--config.train.epochs={epochs}",
    )
    mnv3(folder, "train", f"--config={configs / 'fashion_mnist_qat.py'}:{network}", f"--init={network}", f"--workdir={aware}")
    found[network] = {"trained": exported(folder, network, KINDS), "aware": exported(folder, aware, AWARE_KINDS)}
  return found


def table() -> str:
  """Formats the kept results as a Markdown table: top-1 in percent, and its difference to float32 in points."""
  found = json.loads(KEPT.read_text())
  heads = ["float32", "float16", "int8_weights", "int8", "int8_integer", "int8, aware", "int8_integer, aware"]
  lines = ["| top-1, % | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
  for network, f in found.items():
    reference = f["trained"]["none"]
    cells = [f"{100 * reference:.2f}"]
    for top1 in [*(f["trained"][kind] for kind in KINDS[1:]), *(f["aware"][kind] for kind in AWARE_KINDS)]:
      cells.append(f"{100 * top1:.2f} ({100 * (top1 - reference):+.2f})")
    lines.append(f"| {network} | " + " | ".join(cells) + " |")
  return "\n".join([*lines, ""])


def rendered(text):
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  section.command_line(sys.argv[1:], run, KEPT, rendered)
