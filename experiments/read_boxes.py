"""Boxes of a detector's .tflite file on a photo: python read_boxes.py FILE.tflite PHOTO [FILE.tflite.labels.txt]

The file is made by mnv3 export --postprocess device --labels. Needed: ai-edge-litert, numpy, pillow.
"""

import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

file, photo, *names = sys.argv[1:]
labels = pathlib.Path(names[0]).read_text("utf-8").splitlines() if names else None
detect = Interpreter(model_path=file).get_signature_runner()
((name, tensor),) = detect.get_input_details().items()
height, width = tensor["shape"][1:3]
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
# the whole photo is stretched to the input: bilinear, pixel x of it from x * ratio (the convention "torchvision": shift 0)
ratio = np.array([image.width, image.height]) / [width, height]
shift = 0.5 * (1 - ratio)
matrix = (ratio[0], 0, shift[0], 0, ratio[1], shift[1])
pixels = np.asarray(image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))
found = detect(**{name: pixels[None] if tensor["dtype"] == np.uint8 else np.float32(pixels[None]) / 127.5 - 1})
for i in range(int(found["count"][0])):  # what comes after them means nothing
  ymin, xmin, ymax, xmax = np.clip(found["boxes"][0, i], 0, 1) * [image.height, image.width, image.height, image.width]
  label = int(found["classes"][0, i])
  print(f"{found['scores'][0, i]:.2f} {labels[label] if labels else label}: {xmin:.0f} {ymin:.0f} {xmax:.0f} {ymax:.0f}")
