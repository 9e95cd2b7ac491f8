"""Random detection sets, and the numbers that pycocotools gives for them."""

import contextlib
import io

import numpy as np


def coco_set(seed, images=40, classes=6, crowded=140, boxes_in=12):
  """Annotations and results with everything that went wrong elsewhere.

  Ids have holes and no order; an annotation has id 0; scores are tied; there are crowds, images without boxes, images with more
  than 100 detections of a class, a class without an object, annotations without iscrowd or area.
  """
  rng = np.random.default_rng(seed)
  image_ids = rng.permutation(1000)[:images].tolist()
  category_ids = (rng.permutation(90)[:classes] + 1).tolist()
  annotations, results = [], []
  ids = iter([0, *rng.permutation(100_000)[: images * boxes_in].tolist()])
  for image in image_ids:
    true = rng.integers(0, boxes_in) if rng.random() > 0.1 else 0
    boxes = np.concatenate([rng.uniform(0, 300, (true, 2)), np.exp(rng.uniform(1, 5.5, (true, 2)))], 1).round(2)
    kinds = rng.choice(category_ids[:-1], true)
    for box, kind in zip(boxes.tolist(), kinds.tolist(), strict=True):
      a = {"id": next(ids), "image_id": image, "category_id": kind, "bbox": box}
      a |= {"iscrowd": int(rng.random() < 0.08)} if rng.random() < 0.9 else {}
      a |= {"area": float(box[2] * box[3] * rng.uniform(0.4, 1))} if rng.random() < 0.9 else {}
      annotations.append(a)
    # the second image has most of its detections of one class
    many = image == image_ids[1]
    for n in range(crowded if many else rng.integers(0, boxes_in * 2)):
      if true and rng.random() < 0.7:
        which = rng.integers(true)
        box, kind = boxes[which] + rng.normal(0, 0.06, 4) * boxes[which][[2, 3, 2, 3]], kinds[which]
        if rng.random() < 0.1:
          box = boxes[which]
      else:
        box = np.concatenate([rng.uniform(0, 300, 2), np.exp(rng.uniform(1, 5.5, 2))])
        kind = rng.choice(category_ids)
      kind = category_ids[0] if many and n % 8 else kind
      box = np.maximum(box, [-1e3, -1e3, 0, 0]).tolist()
      score = round(float(rng.random()), 1 if n % 2 else 3)
      results.append({"image_id": image, "category_id": int(kind), "bbox": box, "score": score})
  images = [{"id": i, "width": 640, "height": 480, "file_name": f"{i:012}.jpg"} for i in image_ids]
  categories = [{"id": i, "name": f"class {i}"} for i in category_ids]
  return {"images": images, "categories": categories, "annotations": annotations}, results


def judged(content, results):
  """The 12 numbers of pycocotools, and AP by category id; -1 where there is no truth."""
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval

  annotations = []
  for n, a in enumerate(content["annotations"], 1):
    area = a["area"] if "area" in a else a["bbox"][2] * a["bbox"][3]
    annotations.append({**a, "id": n, "iscrowd": a.get("iscrowd", 0), "area": area})
  with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = {**content, "annotations": annotations}
    truth.createIndex()
    found = truth.loadRes([dict(r) for r in results])
    ev = COCOeval(truth, found, "bbox")
    ev.evaluate()
    ev.accumulate()
    ev.summarize()
  precision = ev.eval["precision"][:, :, :, 0, 2]
  known = {i: precision[:, :, k] for k, i in enumerate(ev.params.catIds)}
  return ev.stats, {i: p[p > -1].mean() if (p > -1).any() else -1 for i, p in known.items()}
