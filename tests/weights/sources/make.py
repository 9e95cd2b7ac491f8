"""Runs the sources themselves on seeded weights and keeps their logits as what the parity tests expect.

  python tests/weights/sources/make.py FOLDER            writes tests/weights/expected/*.npz anew
  python tests/weights/sources/make.py FOLDER --check    runs everything and compares with what is there

FOLDER takes two environments (2 GB) and the seeded weights; it may be used again. Each source runs in a process of its own that
does not import this project:

  run_torch.py   torchvision and timm      requirements.txt
  run_keras.py   Keras on the JAX backend  requirements.txt
  run_slim.py    the authors' own code     requirements_slim.txt (TensorFlow 2.15: Python 3.11 at most)
  run_views.py   torchvision's transforms  requirements.txt

Then files_torch.py and files_keras.py write weights in every form that PyTorch and Keras have, and this project reads them; and
run_exported.py loads the files of export_weights in torchvision, timm and Keras by the lines that it gives for them.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import matplotlib.cbook
import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent.parent)]
import exported  # noqa: E402
import seeds  # noqa: E402

from mnv3_jax.architectures import cost  # noqa: E402
from mnv3_jax.weights import sources  # noqa: E402

EXPECTED = HERE.parent / "expected"
RUNS = {"run_torch.py": ("torchvision", "timm"), "run_keras.py": ("keras",), "run_slim.py": ("slim",)}
# relative to the largest logit: what another processor may change
TOLERANCE = 1e-5


def environment(folder, requirements):
  """The Python of an environment with pinned packages; made once."""
  home = folder / requirements.stem
  if not (home / "done").exists():
    print(f"installing {requirements.name} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    # the pins are whole; timm and torchvision would ask for more than their networks need
    pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "-r", requirements]
    subprocess.run(pip, check=True)
    (home / "done").touch()
  return home / "bin" / "python"


def prepare(folder):
  """Writes FOLDER/CASE.npz: tensors under "w:NAME", images, and what the source needs to know of the network."""
  for source, model, fields in seeds.CASES:
    file = folder / f"{seeds.case_name(source, model, fields)}.npz"
    published = sources.published(source, model, **fields)
    weights = {f"w:{name}": a for name, a in seeds.tensors(published).items()}
    a = published.architecture()
    about = {"source": source, "model": model, "width": fields.get("width", 1.0), "minimalistic": "minimalistic" in fields}
    about |= {
      "resolution": a.resolution,
      "params": cost.params(a),
      "madds": cost.madds(a),
      "classes": published.classes,
      "headless": (source, model, fields) in seeds.HEADLESS,
      **published.preprocessing,
    }
    np.savez(file, images=seeds.images(published), **about, **weights)


def views(folder, check):
  """torchvision's own transforms on a photo, for tests/data/test_views.py; returns the largest difference."""
  (folder / "views.json").write_text(json.dumps({name: dataclasses.asdict(view) for name, view in seeds.VIEWS.items()}))
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as photo:
    (folder / "photo.jpg").write_bytes(photo.read())
  python = environment(folder, HERE / "requirements.txt")
  out = folder / "views.npz" if check else EXPECTED / "views.npz"
  subprocess.run([python, HERE / "run_views.py", folder / "photo.jpg", folder / "views.json", out], check=True)
  with np.load(out) as found, np.load(EXPECTED / "views.npz") as kept:
    return max(float(np.abs(found[name] - kept[name]).max()) for name in kept)


def main():
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--check", action="store_true")
  given = parser.parse_args()
  cases, folder = given.folder / "cases", given.folder.absolute()
  cases.mkdir(parents=True, exist_ok=True)
  print("seeding ...", flush=True)
  prepare(cases)
  worst = views(folder, given.check)
  assert worst <= TOLERANCE, worst
  for script, names in RUNS.items():
    requirements = HERE / ("requirements_slim.txt" if "slim" in script else "requirements.txt")
    files = [cases / f"{seeds.case_name(*case)}.npz" for case in seeds.CASES if case[0] in names]
    subprocess.run([environment(folder, requirements), HERE / script, *files], check=True)
    for source in names:
      found = {}
      for f in files:
        if f.stem.startswith(f"{source}-"):
          found |= seeds.kept(f.stem, np.load(f.with_suffix(".logits.npy")))
          if np.load(f)["headless"]:
            found[f"{f.stem}-features"] = np.load(f.with_suffix(".features.npy"))
      kept = EXPECTED / f"{source}.npz"
      if not given.check:
        EXPECTED.mkdir(exist_ok=True)
        np.savez_compressed(kept, **found)
        continue
      with np.load(kept) as expected:
        assert set(expected) == set(found), set(expected) ^ set(found)
        for name, logits in found.items():
          if name.endswith("-classes"):
            # where two classes are as likely as each other, another processor may change which
            assert (logits != expected[name]).mean() <= 1e-3, name
            continue
          worst = max(worst, float(np.abs(logits - expected[name]).max() / np.abs(logits).max()))
          assert worst <= TOLERANCE, (name, worst)
  for script, names in (("files_torch.py", ("torchvision", "timm")), ("files_keras.py", ("keras",))):
    files = [cases / f"{seeds.case_name(*case)}.npz" for case in seeds.CASES if case[0] in names]
    python, path = environment(folder, HERE / "requirements.txt"), {"PYTHONPATH": str(HERE.parent.parent.parent)}
    subprocess.run([python, HERE / script, *files], check=True, env={**os.environ, **path})
  exports = exported.write_all(folder / "exported", cases)
  for formats in (("timm", "torchvision"), ("keras",)):
    directories = [directory for format in formats for directory in exports[format]]
    subprocess.run([environment(folder, HERE / "requirements.txt"), HERE / "run_exported.py", *directories], check=True)
  print(
    f"{len(seeds.CASES) - len(seeds.SEGMENTERS) + 1} networks of {len({case[0] for case in seeds.CASES})} sources"
    + (f", largest difference {worst:.1e}" if given.check else "")
  )


if __name__ == "__main__":
  main()
