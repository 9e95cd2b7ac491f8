"""Writes torchvision.npz: what torchvision's own functions make of the cases in cases.py.

With torch 2.13.0 (CPU) and torchvision 0.28.0, installed without its dependencies: python tests/boxes/make_torchvision.py. Its
binary is for torch with CUDA only, so that the operator nms is defined here, after torchvision/csrc/ops/cpu/nms_kernel.cpp.
"""

import pathlib
import sys
import types

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases


def nms(boxes, scores, threshold):
  b, order = boxes.numpy(), torch.sort(scores, descending=True, stable=True)[1].numpy()
  area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
  gone, kept = np.zeros(len(b), bool), []
  for n, i in enumerate(order):
    if gone[i]:
      continue
    kept.append(i)
    rest = order[n + 1 :]
    sides = np.minimum(b[i, 2:], b[rest, 2:]) - np.maximum(b[i, :2], b[rest, :2])
    shared = np.maximum(sides, np.float32(0)).prod(-1)
    gone[rest[shared / (area[i] + area[rest] - shared) > np.float32(threshold)]] = True
  return torch.tensor(np.array(kept, np.int64))


# before torchvision is imported, which refuses to be where its operators are missing
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.impl("nms", nms, "CPU")

import torchvision  # noqa: E402
from torchvision.models.detection import _utils, anchor_utils, ssd  # noqa: E402
from torchvision.models.detection.image_list import ImageList  # noqa: E402

SIZE = cases.INPUT


def xyxy(boxes):
  return torch.tensor(boxes[..., [1, 0, 3, 2]]) * SIZE


def clear_boxes(rng, n, anchors):
  """Boxes whose matching no rounding changes: no two anchors or boxes are nearly as good, no IoU is near 0.5; some collide."""
  while True:
    found = cases.boxes(rng, 40 * n)
    # beside each another one, which often has the same best anchor
    found = np.concatenate([found, np.clip(found + rng.uniform(-0.01, 0.01, found.shape).astype(np.float32), 0, 1)])
    best = torchvision.ops.box_iou(xyxy(found), anchors).topk(2, 1)
    clear = (best.values[:, 0] - best.values[:, 1] > 1e-3).numpy()
    both = np.flatnonzero(clear[: 40 * n] & clear[40 * n :] & (best.indices[: 40 * n, 0] == best.indices[40 * n :, 0]).numpy())
    chosen = np.concatenate([both[:2], both[:2] + 40 * n, np.setdiff1d(np.flatnonzero(clear), both)[: n - 4]])
    best = torchvision.ops.box_iou(xyxy(found[chosen]), anchors).topk(2, 0).values
    near = (best[0] > 0.499) & ((best[0] - best[1] < 1e-3) | ((best[0] - 0.5).abs() < 1e-3))
    if len(chosen) == n and not near.any():
      return found[chosen]


def main():
  assert torchvision.__version__.startswith("0.28")
  torchvision.ops.boxes._assert_has_ops = lambda: None
  generator = anchor_utils.DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
  image = ImageList(torch.zeros(1, 3, SIZE, SIZE), [(SIZE, SIZE)])
  anchors = generator(image, [torch.zeros(1, 1, n, n) for n in cases.MAPS])[0]
  found = {"anchors_every_97": anchors[::97].numpy(), "first": anchors[:6].numpy(), "last": anchors[-1].numpy()}
  coder, matcher = _utils.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), _utils.SSDMatcher(0.5)
  self = types.SimpleNamespace(box_coder=coder, neg_to_pos_ratio=3)

  # boxes that share their best anchor among them, and an image without boxes
  rng = np.random.default_rng(0)
  boxes, label = np.zeros((3, 20, 4), np.float32), np.full((3, 20), -1, np.int32)
  for i, n in ((0, 5), (2, 20)):
    boxes[i, :n], label[i, :n] = cases.sorted_boxes(clear_boxes(rng, n, anchors), rng.integers(90, size=n))
  found |= {"boxes": boxes, "label": label}
  codes, logits = cases.outputs(1, 3, len(anchors))
  matched = []
  for i in range(3):
    n = int((label[i] >= 0).sum())
    iou = torchvision.ops.box_iou(xyxy(boxes[i, :n]), anchors)
    matched.append(matcher(iou) if n else torch.full((len(anchors),), -1))
  found["matched"] = np.stack([m.numpy() for m in matched]).astype(np.int8)
  codes_t, logits_t = torch.tensor(codes, requires_grad=True), torch.tensor(logits, requires_grad=True)
  targets = []
  for i in range(3):
    n = int((label[i] >= 0).sum())
    targets.append({"boxes": xyxy(boxes[i, :n]).reshape(-1, 4), "labels": torch.tensor(label[i, :n] + 1).long()})
  head = {"bbox_regression": codes_t, "cls_logits": logits_t}
  loss = ssd.SSD.compute_loss(self, targets, head, [anchors] * 3, matched)
  sum(loss.values()).backward()
  found |= {name: value.detach().numpy() for name, value in loss.items()}
  found["codes_gradient"] = codes_t.grad.abs().sum((0, 1)).numpy()
  found["logits_gradient"] = logits_t.grad.abs().sum((0, 1)).numpy()
  encoded = coder.encode_single(xyxy(boxes[2]), anchors[:20])
  found["encoded"], found["decoded"] = encoded.numpy(), coder.decode_single(encoded * 20, anchors[:20]).numpy()

  codes, logits = cases.outputs(2, 1, len(anchors), background=6.0)
  self = types.SimpleNamespace(
    box_coder=coder, score_thresh=0.001, topk_candidates=300, nms_thresh=0.55, detections_per_img=300
  )
  head = {"bbox_regression": torch.tensor(codes), "cls_logits": torch.tensor(logits)}
  detections = ssd.SSD.postprocess_detections(self, head, [anchors], [(SIZE, SIZE)])[0]
  found |= {f"detected_{name}": value.numpy() for name, value in detections.items()}
  found["detected_labels"] = found["detected_labels"].astype(np.int8)
  np.savez_compressed(pathlib.Path(__file__).with_name("torchvision.npz"), **found)


if __name__ == "__main__":
  main()
