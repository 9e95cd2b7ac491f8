"""Contestant of speed.py: timm's networks on PyTorch in channels_last, with or without torch.compile.

It needs only torch and timm, in any Python.
"""

import contextlib

import protocol
import torch

# operators of torchvision that timm needs at import; a CPU build of torch lacks them
with contextlib.suppress(RuntimeError):
  library = torch.library.Library("torchvision", "DEF")
  library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm

NAMES = {
  "mobilenetv3_large": "mobilenetv3_large_100",
  "mobilenetv3_small": "mobilenetv3_small_100",
  "mobilenetv2": "mobilenetv2_100",
  "mnasnet_a1": "semnasnet_100",
}


def main() -> None:
  """Runs the contestant."""
  case = protocol.read_case()
  # as in XLA: denormal numbers would multiply its time
  torch.set_flush_denormal(True)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  model = timm.create_model(NAMES[case["network"]], drop_rate=0.2).to(device, memory_format=torch.channels_last)
  shape = (case["batch"], 3, case["resolution"], case["resolution"])
  images = torch.rand(shape, device=device).to(memory_format=torch.channels_last) * 2 - 1
  labels = torch.randint(0, 1000, (case["batch"],), device=device)
  about = {
    "params": sum(p.numel() for p in model.parameters()),
    "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    "versions": {"torch": torch.__version__, "timm": timm.__version__},
  }
  half = torch.autocast(device, torch.bfloat16, enabled=case["dtype"] == "bfloat16")
  run = torch.compile(model) if case.get("compile") else model

  def wait() -> None:
    if device == "cuda":
      torch.cuda.synchronize()

  if case["kind"] == "inference":
    model.eval()

    def call() -> None:
      with torch.inference_mode(), half:
        run(images)
  else:
    model.train()
    loss_of = torch.nn.CrossEntropyLoss()
    rule = torch.optim.RMSprop(model.parameters(), 1e-3, 0.9, 1e-3, 1e-5, 0.9, foreach=True)

    def call() -> None:
      rule.zero_grad(set_to_none=True)
      with half:
        loss = loss_of(run(images), labels)
      loss.backward()
      rule.step()

  protocol.serve(call, wait, **about)


if __name__ == "__main__":
  main()
