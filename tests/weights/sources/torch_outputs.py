"""What networks of torchvision and timm compute; imported before torchvision, whose own build is not needed for them."""

import torch

# the operators that torchvision's own build would register; its networks do without them, its import does not
LIBRARY = torch.library.Library("torchvision", "DEF")
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def outputs_of(model, images):
  """What the model computes of images (b, h, w, 3), in our axes."""
  x = torch.from_numpy(images).permute(0, 3, 1, 2)
  if hasattr(model, "anchor_generator"):
    # codes and logits, before anything is made of them
    found = model.head(list(model.backbone(x).values()))
    return torch.cat([found["bbox_regression"], found["cls_logits"]], -1).numpy()
  found = model(x)
  # of a segmenter a dict of maps
  return found.numpy() if isinstance(found, torch.Tensor) else found["out"].permute(0, 2, 3, 1).numpy()
