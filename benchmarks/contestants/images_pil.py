"""Contestant of pipeprotocol.py: PyTorch's DataLoader with Pillow, as in torchvision's own recipes."""

import contextlib
import os
import time
from collections.abc import Iterator

import protocol
import torch

CASE = protocol.read_case()
os.sched_setaffinity(0, CASE["cores"])

with contextlib.suppress(RuntimeError):
  library = torch.library.Library("torchvision", "DEF")
  library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402


def main() -> None:
  """Runs the contestant."""
  low = {"crop_flip": 0.08, "inception": 0.05}[CASE["augment"]]
  jitter = [transforms.ColorJitter(brightness=0.125, saturation=0.5)] if CASE["augment"] == "inception" else []
  steps = [transforms.RandomResizedCrop(CASE["resolution"], scale=(low, 1.0)), transforms.RandomHorizontalFlip(), *jitter]
  steps += [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
  began = time.perf_counter()
  images = datasets.ImageFolder(os.path.join(CASE["folder"], "train"), transforms.Compose(steps))
  loader = torch.utils.data.DataLoader(
    images, CASE["batch"], shuffle=True, num_workers=len(CASE["cores"]), drop_last=True, persistent_workers=True
  )

  def endless() -> Iterator[object]:
    while True:
      yield from loader

  batches = endless()
  next(batches)
  about = {"first_batch_s": round(time.perf_counter() - began, 2)}
  versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
  protocol.serve(lambda: next(batches), lambda: None, **about, versions=versions)


if __name__ == "__main__":
  main()
