"""Photos in one folder per class: <root>/<class>/<photo>, read when they are needed."""

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.images import open_image
from mnv3_jax.errors import WrongUse

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm")


@dataclasses.dataclass(frozen=True, eq=False)
class Folder:
  """A test set of photos as files, at any resolution.

  Attributes:
    root: of the class folders; "" where there are no photos, only classes.
    classes: names by label.
    folders: names that the classes' folders may have, by label, each a tuple.
    prepare: from a PIL image to what the network sees, (r, r, 3) float32.
    host, hosts: which contiguous part of each batch this process reads.
  """

  root: str
  classes: tuple
  folders: tuple
  prepare: Callable
  host: int = 0
  hosts: int = 1

  @property
  def steps_per_epoch(self):
    """Raises WrongUse: photos in folders are for evaluation."""
    raise WrongUse(
      "training on photos in folders is not there yet; config.data.dataset = 'fashion_mnist' is what can be trained on"
    )

  def eval_batches(self, batch_size):
    """Every photo once: batches of `batch_size` / hosts with "mask" 1, filled up with "mask" 0.

    Raises:
      WrongUse: if there is no folder, no photo, a folder of no class, or a photo that cannot be read; names it.
    """
    files = self.files()
    share = batch_size // self.hosts
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for at in range(0, len(files), batch_size):
        mine = files[at + self.host * share : min(at + (self.host + 1) * share, len(files))]
        # a host without a photo of its own shows the first one, masked
        shown = [path for path, _ in mine] or [files[0][0]]
        image = np.stack(list(pool.map(lambda path: self.prepare(open_image(path)), shown)))
        image = np.concatenate([image, np.repeat(image[:1], share - len(image), axis=0)])
        label = np.array([label for _, label in mine] + [0] * (share - len(mine)), np.int32)
        yield {"image": image, "label": label, "mask": (np.arange(share) < len(mine)).astype(np.float32)}

  def files(self):
    """[(path, label)] in the order of names; raises WrongUse as eval_batches does."""
    if not self.root:
      raise WrongUse("these weights came without photos; evaluate --data DIR takes a folder that has one folder per class")
    root = pathlib.Path(self.root)
    if not root.is_dir():
      raise WrongUse(f"no folder {str(root)!r}; photos are read from one folder per class in it")
    if not self.classes:
      raise WrongUse(
        "the classes of these weights have no names; import --classes FILE gives them, and folders are found by them"
      )
    labels = {name: i for i, names in reversed(list(enumerate(self.folders))) for name in names}
    found = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
      if folder.name not in labels:
        raise WrongUse(f"{str(folder)!r} is the folder of no class of this network; {nearest(folder.name, labels)}")
      photos = sorted(p for p in folder.rglob("[!.]*") if p.suffix.lower() in SUFFIXES)
      found += [(p, labels[folder.name]) for p in photos]
    if not found:
      raise WrongUse(f"no photos in the folders of {str(root)!r}; {', '.join(SUFFIXES)} are read")
    return found


def folder_names(names):
  """What the folders of plain class names may be called: the name itself, or with what a path cannot have replaced."""
  return tuple(tuple(dict.fromkeys((name, name.replace("/", "_"), name.replace(" ", "_")))) for name in names)
