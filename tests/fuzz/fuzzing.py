"""Fuzzing in a child process: bounded time and memory, a seed that is printed, and the input that failed."""

import os
import pathlib
import random
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
# seconds of a target, and bytes that its process may take
SECONDS, MEMORY = 20, 6 << 30


def run_target(file, words=(), seconds=SECONDS):
  """Runs `file` as a program under limits and asserts that it ends well; its output names the seed and the failing input."""
  seed = random.SystemRandom().randrange(2**32)
  # no preexec_fn: a fork of this process would warn of jax's threads
  limited = ["sh", "-c", f'ulimit -v {MEMORY >> 10}; exec "$@"', "sh"]
  done = subprocess.run(
    [*limited, sys.executable, str(file), str(seed), str(seconds), *map(str, words)],
    capture_output=True,
    text=True,
    timeout=20 * seconds,
    env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", ""))))},
  )
  assert done.returncode == 0, f"seed {seed}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
  print(f"seed {seed}: {done.stdout.strip().splitlines()[-1]}")
  return done.stdout


def mutated_bytes(rng, content, start=0):
  """Returns bytes with a few changes: bits, small and large numbers, pieces repeated, removed or cut off."""
  # those of `start` and before stay
  b = bytearray(content)
  for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
    i = rng.randrange(start, max(len(b) - 4, start + 1))
    kind = rng.random()
    if kind < 0.3:
      b[i : i + 1] = bytes([rng.choice((rng.randrange(256), rng.randrange(8), 255))])
    elif kind < 0.7:
      b[i : i + 4] = rng.choice((0, 1, 2, 5, 2**31 - 1, 2**32 - 1, rng.randrange(2**32), rng.randrange(100))).to_bytes(
        4, "little"
      )
    elif kind < 0.8:
      del b[i : i + rng.choice((1, 4, 64))]
    elif kind < 0.9:
      b[i:i] = b[i : i + rng.choice((1, 4, 64))]
    elif kind < 0.95:
      del b[i:]
    else:
      b[i:i] = bytes(rng.randrange(256) for _ in range(8))
  return bytes(b)
