"""Flips a bit in every file of a checkpoint, one at a time, and reads it: `damage.py CHECKPOINT SCRATCH`.

Prints how many flips were noticed, and of how many files; fails if one that was not noticed changed a number. In a process
of its own because what TensorStore had begun to read when one read fails goes on in its threads.
"""

import pathlib
import shutil
import sys

import numpy as np

from mnv3_jax.training.checkpoints import Checkpoints, DamagedCheckpoint


def flip_a_bit(file):
  """Changes the byte in the middle of a file."""
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


def main(checkpoint, scratch):
  """Counts the flips that reading notices."""
  checkpoint, step = pathlib.Path(checkpoint), int(pathlib.Path(checkpoint).name)
  whole = Checkpoints(checkpoint.parent, write=False)
  like = {k: np.asarray(v) for k, v in whole.manager.restore(step).state.items()}
  expected, _ = whole.read(step, like)
  files = [p for p in checkpoint.rglob("*") if p.is_file() and p.stat().st_size]
  noticed = 0
  for i, file in enumerate(files):
    copy = pathlib.Path(scratch) / str(i) / str(step)
    shutil.copytree(checkpoint, copy)
    flip_a_bit(copy / file.relative_to(checkpoint))
    try:
      found, _ = Checkpoints(copy.parent, write=False).read(step, like)
    except DamagedCheckpoint:
      noticed += 1
    else:
      # a byte that nothing reads: the numbers must be right to the bit
      assert all(found[k].tobytes() == expected[k].tobytes() for k in expected), file
  print(noticed, len(files))


if __name__ == "__main__":
  main(*sys.argv[1:])
