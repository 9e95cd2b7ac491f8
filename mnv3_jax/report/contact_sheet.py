"""Contact sheet of a data set: training images as several epochs augment them, and test images."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import UInt8

from mnv3_jax.errors import FatalError
from mnv3_jax.report import plots
from mnv3_jax.types import Batch, PathLike

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset

Pictures: TypeAlias = Callable[[np.ndarray, Batch], list[np.ndarray]]

# training images (rows) and epochs (columns)
ROWS, EPOCHS = 5, 7


def draw_contact_sheet(
  dataset: "Dataset", path: PathLike, title: str, pictures: Pictures, caption: Callable[[Batch], str]
) -> list[str]:
  """Draws ROWS training images, each in EPOCHS augmented versions, and a row of test images.

  Args:
    dataset: of open_dataset.
    path: of the PNG.
    title: of the picture.
    pictures: draws decoded images (b, h, w, 3) uint8 with the labels of their batch; a task's.
    caption: label of the first example of a batch as text, "" where it has none; a task's.

  Returns:
    Messages about test images that cannot be read.
  """
  rows = []
  n = dataset.num_train_examples
  for i in range(0, n, max(n // ROWS, 1))[:ROWS]:
    try:
      batches = list(itertools.islice(dataset.single_example(i).train_batches(0), EPOCHS))
    except FatalError:
      # an image that cannot be read: measure_throughput names it
      continue
    drawn = [picture for batch in batches for picture in _draw(dataset, batch, [0], pictures)]
    rows.append((caption(batches[0]) or f"example {i}", drawn))
  test = next(iter(dataset.eval_batches(EPOCHS)))
  rows.append(("test", _draw(dataset, test, np.flatnonzero(test["mask"] > 0), pictures)))
  plots.rows_of_images(rows, path, title)
  return list(test.get("broken", []))


def _draw(
  dataset: "Dataset", batch: Batch, chosen: Sequence[int] | np.ndarray, pictures: Pictures
) -> list[UInt8[np.ndarray, "h w 3"]]:
  """Draws some examples of a batch."""
  part = {name: batch[name][chosen] for name in batch if name != "broken"}
  return pictures(dataset.preprocessing.denormalize(part["image"]), part)
