"""Damages a checkpoint at random, COUNT times, and reads it each time: `damage.py CHECKPOINT SCRATCH COUNT SEED`.

Prints how many damages were noticed and how many files were hit; fails if one that was not noticed changed an array or a value
of the metadata. In a process of its own because what TensorStore had begun to read when one read fails goes on in its threads.
"""

import pathlib
import random
import shutil
import sys

import numpy as np

from mnv3_jax.training.checkpoints import Checkpoints, DamagedCheckpoint


def flip_a_bit(file, place=0.5, bit=0):
  """Flips a bit of the byte at a relative place of a file."""
  content = bytearray(file.read_bytes())
  content[min(int(len(content) * place), len(content) - 1)] ^= 1 << bit
  file.write_bytes(content)


def damage(file, rng):
  """Flips a bit in half of the cases; else cuts, empties, extends, overwrites or deletes a file."""
  content, kind = file.read_bytes(), rng.randrange(10)
  place = rng.randrange(len(content))
  if kind < 5:
    flip_a_bit(file, rng.random(), rng.randrange(8))
  elif kind == 5:
    file.write_bytes(content[:place])
  elif kind == 6:
    file.write_bytes(b"")
  elif kind == 7:
    file.write_bytes(content + rng.randbytes(8))
  elif kind == 8:
    file.write_bytes(content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :])
  else:
    file.unlink()


def main(checkpoint, scratch, count, seed):
  """Counts the damages that reading notices."""
  checkpoint, step = pathlib.Path(checkpoint), int(pathlib.Path(checkpoint).name)
  rng = random.Random(int(seed))
  whole = Checkpoints(checkpoint.parent, write=False)
  like = {k: np.asarray(v) for k, v in whole.manager.restore(step).state.items()}
  expected, meta = whole.read(step, like)
  files = sorted(p.relative_to(checkpoint) for p in checkpoint.rglob("*") if p.is_file() and p.stat().st_size)
  # those of metadata are small: as many damages to them as to the large ones
  hit, noticed = set(), 0
  for i in range(int(count)):
    file = rng.choice(files)
    hit.add(file)
    copy = pathlib.Path(scratch) / str(i) / str(step)
    shutil.copytree(checkpoint, copy)
    damage(copy / file, rng)
    reader = Checkpoints(copy.parent, write=False)
    try:
      found, found_meta = reader.read(step, like)
    except DamagedCheckpoint:
      noticed += 1
    else:
      # bytes that nothing reads: everything must be right to the bit
      assert found_meta == meta, file
      assert all(found[k].tobytes() == expected[k].tobytes() for k in expected), file
    shutil.rmtree(copy.parent)
  print(noticed, len(hit), len(files))


if __name__ == "__main__":
  main(*sys.argv[1:])
