"""A class for every pixel as people look at it: colours, a photo under its mask, a legend."""

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from mnv3_jax.runs.atomic import write_atomically

# what everybody paints Cityscapes with
CITYSCAPES = {
  "road": (128, 64, 128),
  "sidewalk": (244, 35, 232),
  "building": (70, 70, 70),
  "wall": (102, 102, 156),
  "fence": (190, 153, 153),
  "pole": (153, 153, 153),
  "traffic light": (250, 170, 30),
  "traffic sign": (220, 220, 0),
  "vegetation": (107, 142, 35),
  "terrain": (152, 251, 152),
  "sky": (70, 130, 180),
  "person": (220, 20, 60),
  "rider": (255, 0, 0),
  "car": (0, 0, 142),
  "truck": (0, 0, 70),
  "bus": (0, 60, 100),
  "train": (0, 80, 100),
  "motorcycle": (0, 0, 230),
  "bicycle": (119, 11, 32),
}
BLACK = (0, 0, 0)
# share of a class's colour in what is painted over a photo
ALPHA = 0.55
# what red, green and blue have in the brightness of a pixel
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def colours(classes):
  """(n, 3) uint8 for classes by name: Cityscapes' own for its classes, black for a background, others easy to tell apart."""
  if set(classes) == set(CITYSCAPES):
    return np.array([CITYSCAPES[name] for name in classes], np.uint8)
  wheel = [c for name in ("tab10", "Set2", "tab20b", "tab20c") for c in colormaps[name].colors]
  # grey is what photos are made of
  wheel = [c for c in wheel if max(c[:3]) - min(c[:3]) > 0.1]
  painted = iter(range(len(classes)))
  found = [BLACK if name == "background" else wheel[next(painted) % len(wheel)] for name in classes]
  return np.array([c if c is BLACK else np.round(255 * np.array(c[:3])) for c in found], np.uint8).reshape(-1, 3)


def painted(pixels, mask, palette):
  """A photo (h, w, 3) uint8 under its mask (h, w); black classes and labels beyond the palette are left clear.

  Where there is a colour the photo is in grey: one class has one hue, whatever colours the photo has.
  """
  known = np.where(mask < len(palette), mask, 0)
  colour = palette[known].astype(np.float32)
  clear = (mask >= len(palette)) | ~colour.any(-1)
  grey = (pixels @ LUMA)[..., None]
  over = (1 - ALPHA) * grey + ALPHA * colour
  return np.where(clear[..., None], pixels, np.uint8(np.round(over)))


def solid(mask, palette):
  """A mask (h, w) of labels in its colours, (h, w, 3) uint8; labels beyond the palette are white."""
  return np.concatenate([palette, np.full((256 - len(palette), 3), 255, np.uint8)])[mask]


def write_mask(mask, palette, path):
  """A mask (h, w) uint8 of labels as a PNG with a palette: it opens in colour, and its pixels are the labels."""
  image = Image.fromarray(mask).convert("P")
  image.putpalette(palette.tobytes())
  out = io.BytesIO()
  image.save(out, "PNG")
  write_atomically(path, out.getvalue())


def overlay(pixels, mask, classes, path, title):
  """Writes a photo beside itself under its mask, with a legend of what is on it.

  Args:
    pixels: (h, w, 3) uint8.
    mask: (h, w) uint8, labels.
    classes: names by label.
    path: of the PNG.
    title: what stands above.
  """
  grid([[("photo", pixels), ("", painted(pixels, mask, colours(classes)))]], classes, [mask], path, title)


def compared(shown, classes, path, title):
  """Photos beside their true masks and those that were found, with one legend.

  Args:
    shown: a list of (pixels (h, w, 3) uint8, labels (h, w), found labels (h, w)).
    classes: names by label.
    path: of the PNG.
    title: what stands above.
  """
  palette, masks = colours(classes), [mask for _, *both in shown for mask in both]
  rows = [
    [("photo", pixels), ("truth", solid(truth, palette)), ("the .tflite", solid(found, palette))]
    for pixels, truth, found in shown
  ]
  grid(rows, classes, masks, path, title, shares=False)


def grid(rows, classes, masks, path, title, shares=True):
  """Rows of pictures with one legend.

  Args:
    rows: lists of (title, (h, w, 3) uint8); titles stand above the first row only.
    classes: names by label.
    masks: arrays of labels; the legend has what is in any of them, the most frequent first.
    path: of the PNG.
    title: what stands above.
    shares: whether the legend says what share of the masks' pixels a class has.
  """
  height, width = rows[0][0][1].shape[:2]
  # a wide photo goes above its mask
  stacked = len(rows) == 1 and width > 1.4 * height
  cells = [[cell] for cell in rows[0]] if stacked else rows
  across = 4.2 if len(rows) == 1 else 2.4
  across *= 1.8 if stacked else 1.0
  palette = colours(classes)
  counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
  there = [i for i in np.argsort(-counts, kind="stable") if counts[i] and i < len(classes)]
  total = counts[: len(classes)].sum()
  size = (across * len(cells[0]) + 2.2, max(across * height / width * len(cells), 0.24 * len(there) + 0.2) + 0.7)
  figure = Figure(figsize=size, layout="constrained")
  axes = figure.subplots(len(cells), len(cells[0]), squeeze=False)
  for i, row in enumerate(cells):
    for place, (name, pixels) in zip(axes[i], row, strict=True):
      place.imshow(pixels, interpolation="nearest" if min(pixels.shape[:2]) < 200 else "antialiased")
      place.set_axis_off()
      if i == 0 and not stacked:
        place.set_title(name, fontsize=9)
  handles = [
    Patch(
      facecolor=palette[i] / 255,
      edgecolor="0.5",
      linewidth=0.5,
      label=f"{classes[i]}  {counts[i] / total:.1%}" if shares else classes[i],
    )
    for i in there
  ]
  figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
  figure.suptitle(title, fontsize=11)
  out = io.BytesIO()
  figure.savefig(out, format="png", dpi=120)
  write_atomically(path, out.getvalue())
