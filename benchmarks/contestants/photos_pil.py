"""PyTorch's DataLoader with Pillow, as torchvision's own recipes read photos: a contestant of pipeline.py."""

import contextlib
import os
import time

import line
import torch

CASE = line.read_case()
os.sched_setaffinity(0, CASE["cores"])

with contextlib.suppress(RuntimeError):
  library = torch.library.Library("torchvision", "DEF")
  library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402


def main():
  """The command line."""
  low = {"crop_flip": 0.08, "inception": 0.05}[CASE["augment"]]
  jitter = [transforms.ColorJitter(brightness=0.125, saturation=0.5)] if CASE["augment"] == "inception" else []
  shown = [transforms.RandomResizedCrop(CASE["resolution"], scale=(low, 1.0)), transforms.RandomHorizontalFlip(), *jitter]
  shown += [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
  began = time.perf_counter()
  photos = datasets.ImageFolder(os.path.join(CASE["folder"], "train"), transforms.Compose(shown))
  loader = torch.utils.data.DataLoader(
    photos, CASE["batch"], shuffle=True, num_workers=len(CASE["cores"]), drop_last=True, persistent_workers=True
  )

  def endless():
    while True:
      yield from loader

  batches = endless()
  next(batches)
  about = {"first_batch_s": round(time.perf_counter() - began, 2)}
  versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
  line.serve(lambda: next(batches), lambda: None, **about, versions=versions)


if __name__ == "__main__":
  main()
