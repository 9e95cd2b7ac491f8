"""Transfer from published weights to a folder of images, from the images to an int8 file; and the docs' tables of it.

python experiments/class_folder.py FOLDER   trains in FOLDER what it lacks (about fifteen minutes on two cores) and keeps the
                                            figures in experiments/results/class_folder.json; torchvision's weights need PyTorch
python experiments/class_folder.py          writes the tables anew from these

The images are stamps of Tux Paint, mostly photos cut out of their background: FOLDER/usr is that of a Debian package (apt-get
download tuxpaint-stamps-default; dpkg-deb -x tuxpaint-stamps-default_*.deb FOLDER). Each row is trained three times, on two
thirds of the images of each class, and tested on the other third.
"""

import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import section
from PIL import Image

from mnv3_jax.latency.benchmark import benchmark
from mnv3_jax.runs.progress import duration
from mnv3_jax.sweeps.trial import command_line

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "class_folder.json"
BEGIN, END = "<!-- from experiments/class_folder.py: {} -->\n", "<!-- end of class_folder -->\n"

WEIGHTS = "torchvision/MobileNet_V2_Weights.IMAGENET1K_V1"
CONFIG = "configs/fine_tuning.py:mobilenetv2"
RESOLUTION = 128
# folders of stamps by class
CLASSES = {
  "bird": "animals/birds",
  "fish": "animals/fish",
  "flower": "plants/flowers",
  "fruit": "food/fruit",
  "instrument": "hobbies/music",
  "mammal": "animals/mammals",
  "tool": "household/tools",
  "vegetable": "food/vegetables",
  "vehicle": "vehicles",
}
DRAWN = ("cartoon", "mirror", "flip")
LAST_LAYER = ("--config.optim.lr_groups=backbone=0,features=0", "--config.optim.lr=0.01")
# options of each row
ROWS: Mapping[str, Sequence[str]] = {
  "all layers": ("--init", WEIGHTS),
  "all layers, `layer_decay=0.7`": ("--init", WEIGHTS, "--config.optim.layer_decay=0.7", "--config.optim.lr=0.002"),
  "the last layer alone": ("--init", WEIGHTS, *LAST_LAYER),
}
EXPORTED = "the last layer alone"
FOLDS = (0, 1, 2)


def prepare(folder: pathlib.Path) -> int:
  """Writes FOLDER/photosN/{train,test}/CLASS/*.jpg of each fold N, square and on white; returns the number of images."""
  count = 0
  for name, part in CLASSES.items():
    stamps = folder / "usr" / "share" / "tuxpaint" / "stamps" / part
    files = sorted(file for file in stamps.rglob("*.png") if not any(word in str(file.relative_to(stamps)) for word in DRAWN))
    count += len(files)
    for i, file in enumerate(files):
      stamp = Image.open(file).convert("RGBA")
      side = max(stamp.size)
      square = Image.new("RGBA", (side, side), "white")
      square.alpha_composite(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2))
      for fold in FOLDS:
        target = folder / f"photos{fold}" / ("test" if i % len(FOLDS) == fold else "train") / name / f"{file.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        square.convert("RGB").save(target, quality=92)
  return count


def mnv3(folder: pathlib.Path, *words: object) -> float:
  """Runs a command in the folder; returns its seconds."""
  began = time.perf_counter()
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
  subprocess.run(command_line(["mnv3", *map(str, words)]), cwd=folder, env=environment, check=True)
  return time.perf_counter() - began


def train(folder: pathlib.Path, name: str, fold: int, words: Sequence[str]) -> tuple[dict[str, float], float]:
  """Trains once; returns the metrics of the averaged weights and the seconds of the command."""
  kept = folder / name / "took.json"
  if not kept.is_file():
    fields = {"data.dir": f"photos{fold}", "model.resolution": RESOLUTION, "train.seed": fold, "evaluate.every": 5.0}
    options = [f"--config.{field}={value}" for field, value in fields.items()]
    seconds = mnv3(folder, "train", "--config", ROOT / CONFIG, "--workdir", name, *options, *words)
    kept.write_text(json.dumps(seconds))
  result = json.loads((folder / name / "result.json").read_text())
  return result["metrics"]["test"]["ema"], json.loads(kept.read_text())


def run(folder: pathlib.Path) -> dict[str, Any]:
  """Runs every step; returns images, top-1 by row and fold, figures of the files and seconds of the steps."""
  folder = folder.absolute()
  images = prepare(folder)
  looked = mnv3(folder, "data", "folder", "--config", ROOT / CONFIG, "--config.data.dir=photos0", "--out", "photos.png")
  trained = {
    row: [train(folder, f"row{i}_fold{fold}", fold, words) for fold in FOLDS] for i, (row, words) in enumerate(ROWS.items())
  }
  steps = {"mnv3 data": looked, "mnv3 train": trained[EXPORTED][0][1]}
  files: dict[str, dict[str, float]] = {}
  for quantize in ("none", "int8"):
    records = []
    for fold in FOLDS:
      tuned, file = f"row{list(ROWS).index(EXPORTED)}_fold{fold}", folder / f"{quantize}_{fold}.tflite"
      steps["mnv3 export"] = mnv3(folder, "export", "--workdir", tuned, "--quantize", quantize, "--labels", "--out", file)
      records.append(json.loads(pathlib.Path(f"{file}.json").read_text()))
    top1 = statistics.mean(record["accuracy"]["file"] for record in records)
    files[quantize] = {"bytes": records[0]["bytes"], "top1": top1}
  began = time.perf_counter()
  measured = benchmark([folder / f"{quantize}_0.tflite" for quantize in files])
  steps["mnv3 benchmark"] = time.perf_counter() - began
  for quantize, figures in files.items():
    figures["ms"] = measured[folder / f"{quantize}_0.tflite"].median_ms
  rows = {row: [metrics["top1"] for metrics, _ in folds] for row, folds in trained.items()}
  return {"images": images, "rows": rows, "files": files, "seconds": steps, "device": measured.device["device"]}


def accuracies(kept: Mapping[str, Any]) -> str:
  """Formats top-1 by row."""
  lines = [f"| V2, {RESOLUTION} px | top-1, % | by third |", "|---|---|---|"]
  for row in ROWS:
    values = [100 * top1 for top1 in kept["rows"][row]]
    mean = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
    lines.append(f"| {row} | {mean} | {', '.join(f'{value:.1f}' for value in values)} |")
  return "\n".join(lines) + "\n"


def files(kept: Mapping[str, Any]) -> str:
  """Formats the figures of the files."""
  lines = ["| file | MB | top-1, % | ms |", "|---|---|---|---|"]
  for quantize, figures in kept["files"].items():
    name = "float32" if quantize == "none" else quantize
    lines.append(f"| {name} | {figures['bytes'] / 1e6:.1f} | {100 * figures['top1']:.1f} | {figures['ms']:.2f} |")
  return "\n".join(lines) + f"\n\nOne thread of {kept['device']}.\n"


def times(kept: Mapping[str, Any]) -> str:
  """Formats the seconds of each step."""
  lines = ["| command | on two CPU cores |", "|---|---|"]
  lines += [f"| `{step}` | {duration(seconds)} |" for step, seconds in kept["seconds"].items()]
  return "\n".join([*lines, f"| **in all** | **{duration(sum(kept['seconds'].values()))}** |", ""])


def rendered(text: str) -> str:
  """Returns a page's text with the tables as they should be."""
  kept = json.loads(KEPT.read_text())
  text = section.put(text, BEGIN.format("top-1"), END, accuracies(kept))
  text = section.put(text, BEGIN.format("files"), END, files(kept))
  return section.put(text, BEGIN.format("minutes"), END, times(kept))


if __name__ == "__main__":
  import sys

  section.command_line(sys.argv[1:], run, KEPT, rendered)
