"""Writes expected/stretched.npz: bilinear resizes by torch 2.13.0 and tensorflow 2.21.0, which this script needs.

python tests/data/make_stretched.py
"""

import pathlib

import numpy as np
import tensorflow as tf
import torch

SIZES = ((8, 10), (5, 23), (20, 9), (13, 17))


def main():
  image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)
  found = {"image": image}
  for height, width in SIZES:
    name = f"{height}x{width}"
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    # as torchvision's GeneralizedRCNNTransform: normalized first
    resized = torch.nn.functional.interpolate((pixels / 255 - 0.5) / 0.5, (height, width), mode="bilinear", align_corners=False)
    found[f"half_pixel_{name}"] = resized[0].permute(1, 2, 0).numpy()
    legacy = tf.compat.v1.image.resize_bilinear(image[None].astype(np.float32), (height, width), align_corners=False)
    found[f"legacy_{name}"] = (2 / 255 * legacy.numpy() - 1)[0]
  out = pathlib.Path(__file__).parent / "expected"
  out.mkdir(exist_ok=True)
  np.savez_compressed(out / "stretched.npz", **found)


if __name__ == "__main__":
  main()
