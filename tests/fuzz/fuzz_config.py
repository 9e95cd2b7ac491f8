"""Fuzz target: config.json of a run directory, and overrides of fields."""

import collections
import copy
import json
import pathlib
import random
import sys
import tempfile
import time
import traceback

from fuzzing import mutated_bytes

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.config import base, field_types
from mnv3_jax.config_files import get_config
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.run import Run

NUMBERS = (0, 1, -1, 2, 7, 1e9, -0.5, 0.5, 1.0, float("nan"), float("inf"), 10**30, 10**400, 2**31)
TEXTS = ("", "x", "é", "\ud800", "1e3", "~", "~nobody/x", "a\nb", "\x00", "mobilenetv3_small")
VALUES = (None, True, False, *NUMBERS, *TEXTS, [], [1], ["a"], [["a"]], [None], {}, {"a": 1}, {"name": {}})


def mutated_tree(rng, tree):
  """Changes a few fields of a tree of dicts: other values, removed, renamed, nested, moved."""
  tree = json.loads(json.dumps(tree))
  for _ in range(rng.choice((1, 1, 2, 5))):
    where = rng.choice([tree, *(v for v in tree.values() if isinstance(v, dict))])
    if not where:
      continue
    key = rng.choice(list(where))
    kind = rng.random()
    if kind < 0.6:
      where[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind < 0.7:
      del where[key]
    elif kind < 0.8:
      where[rng.choice(("", "new", "a.b", "lock", "items", "é", key + "_"))] = copy.deepcopy(rng.choice(VALUES))
    elif kind < 0.9:
      where[key] = {key: where[key]}
    else:
      tree[key] = copy.deepcopy(where[key])
  return tree


def mutated_text(rng, text):
  """Returns the bytes of a config.json."""
  tree = mutated_tree(rng, json.loads(text))
  kind = rng.random()
  if kind < 0.7:
    return json.dumps(tree).encode()
  if kind < 0.8:
    return mutated_bytes(rng, json.dumps(tree).encode())
  deep = rng.choice((b"[", b'{"a":')) * rng.choice((10, 10_000, 200_000))
  return rng.choice(
    (
      deep,
      b'{"model": ' + deep,
      b'{"model": 1' + b"0" * 5000 + b"}",
      b'{"train": {}, "train": 3}',
      json.dumps(tree).encode("utf-16"),
      b"",
    )
  )


def main(seed, seconds):
  rng, ends, began = random.Random(seed), collections.Counter(), time.monotonic()
  original, types = json.dumps(base().to_dict()), list(field_types(base()))
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "config.json"
    while time.monotonic() - began < seconds:
      field, value = rng.choice(types), copy.deepcopy(rng.choice(VALUES))
      text = mutated_text(rng, original)
      file.write_bytes(text)
      calls = {
        "Run.config": lambda: Run(folder).config,
        "get_config": lambda field=field, value=value: get_config("fashion_mnist", {field: value}),
        "read_config": lambda field=field, value=value: read_config("fashion_mnist", [f"--config.{field}={value}"]),
      }
      for name, call in calls.items():
        started = time.monotonic()
        try:
          config = call()
          fields.architecture(**config.model)
          ends["config"] += 1
        except (UsageError, ArchitectureError) as error:
          assert 10 < len(str(error)) < 1000, str(error)[:2000]
          ends["usage error"] += 1
        except BaseException:
          print(f"seed {seed}, {name}: {field}={value!r} or {text[:3000]!r}")
          traceback.print_exc()
          sys.exit(1)
        assert time.monotonic() - started < 10, (seed, name, field, value, text[:3000])
  print(dict(ends))


if __name__ == "__main__":
  main(int(sys.argv[1]), float(sys.argv[2]))
