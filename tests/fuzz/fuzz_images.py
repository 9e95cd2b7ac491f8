"""Fuzz target: images and masks, as training, evaluation and prediction decode them."""

import collections
import pathlib
import random
import struct
import sys
import tempfile
import time
import traceback
import zlib

import numpy as np
from fuzzing import mutated_bytes

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "data"))
import zoo
from peak_memory import peak_megabytes

from mnv3_jax.config import base
from mnv3_jax.data import image_datasets
from mnv3_jax.data.pipelines.tf_stream import tensorflow
from mnv3_jax.data.sources import label_maps
from mnv3_jax.data.transforms import decoding, headers
from mnv3_jax.data.transforms.preprocessing import Preprocessing, letterbox
from mnv3_jax.errors import UsageError

FIELD = pathlib.Path(__file__).parents[1] / "data" / "field"
# seconds that one file may take, on a busy machine
LONGEST = 20


def mutated(rng, content):
  """Returns a damaged file; PNG files often with checksums that are right again."""
  content = mutated_bytes(rng, content[:200_000])
  if not content.startswith(headers.PNG) or rng.random() < 0.3:
    return content
  parts, at = [content[:8]], 8
  while at + 12 <= len(content):
    (size,) = struct.unpack_from(">I", content, at)
    body = content[at + 4 : at + 8 + size]
    parts.append(content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
    at += 12 + size
  return b"".join(parts)


def check(content):
  """Decodes a file in every way; returns how that ended."""
  tf, plain, trained = tensorflow(), headers.is_plain(content, len(content), content[-2:]), None
  if plain:
    try:
      jpeg = content.startswith(b"\xff\xd8")
      trained = (
        tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE") if jpeg else tf.io.decode_png(content, channels=3)
      )
    except tf.errors.OpError:
      pass
  for label_map in (label_maps.indices(3), label_maps.label_ids()):
    try:
      label_map.read(content, "x")
    except UsageError:
      pass
  try:
    pixels = decoding.to_rgb(decoding.apply_exif_orientation(decoding.decode_image(content, "x")))
  except UsageError as error:
    assert "'x'" in str(error) and len(str(error)) < 400
    assert trained is None, "trained on, and not evaluated"
    return "usage error"
  if trained is not None:
    difference = np.abs(trained.numpy().astype(int) - np.asarray(pixels))
    # libjpeg smooths what a damaged progressive file lacks, and its versions do so differently
    assert difference.mean() <= (4 if b"\xff\xc2" in content else 0), difference
  assert np.isfinite(Preprocessing().central_crop(pixels, 32)).all()
  letterbox(pixels, (32, 48), (0, 0, 0))
  return "plain" if trained is not None else "decoded"


def check_stream(contents):
  """Trains on damaged files and one whole file: each is a finite image, or named as broken."""
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root, "train", "cat")
    folder.mkdir(parents=True)
    for i, content in enumerate([zoo.files()["rgb.png"], *contents]):
      (folder / f"{i}.png").write_bytes(content)
    config = base()
    config.data.update({"dataset": "folder", "dir": root, "augment": "inception", "classes": ("cat",)})
    config.train.batch_size = len(contents) + 1
    batch = next(image_datasets.open_dataset(config, 32).train_batches(0))
  assert np.isfinite(batch["image"]).all() and all(root in message for message in batch["broken"])
  return len(batch["broken"])


def main(seed, seconds):
  rng, ends, began = random.Random(seed), collections.Counter(), time.monotonic()
  names = ("bigtext.png", "damaged_avif.jpg", "thin_1x65000.png", "palette.bmp")
  originals = [*zoo.files().values(), *((FIELD / name).read_bytes() for name in names)]
  while time.monotonic() - began < seconds / 4:
    ends["broken in training"] += check_stream([mutated(rng, rng.choice(originals)) for _ in range(31)])
  while time.monotonic() - began < seconds:
    content, start = mutated(rng, rng.choice(originals)), time.monotonic()
    try:
      ends[check(content)] += 1
      assert time.monotonic() - start < LONGEST, "too slow"
    except BaseException:
      print(f"failed for {content.hex()}\n{traceback.format_exc()}")
      raise
  print(f"{dict(ends)}, peak {peak_megabytes() / 1024:.2f} GiB")


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]))
