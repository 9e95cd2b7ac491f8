"""Colours and overlays of segmentation masks: palettes, an image under its mask, a legend."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, UInt8
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from mnv3_jax.report.plots import save
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.types import PathLike, Pixels

# the palette that the authors of Cityscapes use
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
# opacity of a class's colour over an image
ALPHA = 0.55
# weights of red, green and blue in the luma of a pixel
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def colours(classes: Sequence[str]) -> UInt8[np.ndarray, "classes 3"]:
  """Returns a palette for classes by name: that of Cityscapes for its classes, black for a background, else distinct hues."""
  if set(classes) == set(CITYSCAPES):
    return np.array([CITYSCAPES[name] for name in classes], np.uint8)
  maps = [colormaps[name] for name in ("tab10", "Set2", "tab20b", "tab20c")]
  listed = [np.array(c[:3]) for m in maps if isinstance(m, ListedColormap) for c in np.asarray(m.colors)]
  # the image below a mask is in grayscale
  wheel = [np.round(255 * c) for c in listed if c.max() - c.min() > 0.1]
  hues = iter(range(len(classes)))
  found = [BLACK if name == "background" else wheel[next(hues) % len(wheel)] for name in classes]
  return np.array(found, np.uint8).reshape(-1, 3)


def painted(pixels: Pixels, mask: Integer[np.ndarray, "h w"], palette: UInt8[np.ndarray, "classes 3"]) -> Pixels:
  """Blends an image with its mask; black classes and labels beyond the palette are left clear.

  Under a colour the image is in grayscale, so that a class has one hue whatever the colours of the image.
  """
  known = np.where(mask < len(palette), mask, 0)
  colour = palette[known].astype(np.float32)
  clear = (mask >= len(palette)) | ~colour.any(-1)
  grey = (pixels @ LUMA)[..., None]
  over = (1 - ALPHA) * grey + ALPHA * colour
  return np.where(clear[..., None], pixels, np.round(over).astype(np.uint8))


def solid(mask: Integer[np.ndarray, "h w"], palette: UInt8[np.ndarray, "classes 3"]) -> Pixels:
  """Colours a mask by its palette; labels beyond the palette are white."""
  return np.concatenate([palette, np.full((256 - len(palette), 3), 255, np.uint8)])[mask]


def write_mask(mask: UInt8[np.ndarray, "h w"], palette: UInt8[np.ndarray, "classes 3"], path: PathLike) -> None:
  """Writes a mask as a PNG with a palette: viewers show colours, and the pixels are the labels."""
  image = Image.fromarray(mask).convert("P")
  image.putpalette(palette.tobytes())
  out = io.BytesIO()
  image.save(out, "PNG")
  write_atomically(path, out.getvalue())


def overlay(pixels: Pixels, mask: Integer[np.ndarray, "h w"], classes: Sequence[str], path: PathLike, title: str) -> None:
  """Plots an image beside itself under its mask, with a legend of the classes in it.

  Args:
    pixels: the image.
    mask: labels.
    classes: names of the classes by label.
    path: path of the PNG.
    title: title of the plot.
  """
  _save_grid([[("image", pixels), ("", painted(pixels, mask, colours(classes)))]], classes, [mask], path, title)


def compared(
  shown: Sequence[tuple[Pixels, Integer[np.ndarray, "h w"], Integer[np.ndarray, "h w"]]],
  classes: Sequence[str],
  path: PathLike,
  title: str,
) -> None:
  """Plots images beside their true and predicted masks, with one legend.

  Args:
    shown: (image, true labels, predicted labels) of each row.
    classes: names of the classes by label.
    path: path of the PNG.
    title: title of the plot.
  """
  palette, masks = colours(classes), [mask for _, *both in shown for mask in both]
  rows = [
    [("image", pixels), ("truth", solid(truth, palette)), ("the .tflite", solid(predicted, palette))]
    for pixels, truth, predicted in shown
  ]
  _save_grid(rows, classes, masks, path, title, shares=False)


def _save_grid(
  rows: Sequence[Sequence[tuple[str, Pixels]]],
  classes: Sequence[str],
  masks: Sequence[Integer[np.ndarray, "h w"]],
  path: PathLike,
  title: str,
  shares: bool = True,
) -> None:
  """Plots rows of images with one legend.

  Args:
    rows: (title, image) of each cell; titles are shown above the first row only.
    classes: names of the classes by label.
    masks: labels; the legend has the classes in any of them, the most frequent first.
    path: path of the PNG.
    title: title of the plot.
    shares: whether the legend has the share of pixels of each class.
  """
  height, width = rows[0][0][1].shape[:2]
  # a wide image goes above its mask
  stacked = len(rows) == 1 and width > 1.4 * height
  cells = [[cell] for cell in rows[0]] if stacked else rows
  handles = _legend(classes, masks, shares)
  inches = (4.2 if len(rows) == 1 else 2.4) * (1.8 if stacked else 1.0)
  high = max(inches * height / width * len(cells), 0.24 * len(handles) + 0.2) + 0.7
  figure = Figure(figsize=(inches * len(cells[0]) + 2.2, high), layout="constrained")
  for i, (row, line) in enumerate(zip(cells, figure.subplots(len(cells), len(cells[0]), squeeze=False), strict=True)):
    for axes, (name, pixels) in zip(line, row, strict=True):
      axes.imshow(pixels, interpolation="nearest" if min(pixels.shape[:2]) < 200 else "antialiased")
      axes.set_axis_off()
      if i == 0 and not stacked:
        axes.set_title(name, fontsize=9)
  figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
  figure.suptitle(title, fontsize=11)
  save(figure, path)


def _legend(classes: Sequence[str], masks: Sequence[Integer[np.ndarray, "h w"]], shares: bool) -> list[Patch]:
  """Returns legend entries of the classes in any mask, the most frequent first."""
  palette = colours(classes)
  counts = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], 0)
  total = counts[: len(classes)].sum()
  found = [i for i in np.argsort(-counts, kind="stable") if counts[i] and i < len(classes)]
  labels = {i: f"{classes[i]}  {counts[i] / total:.1%}" if shares else classes[i] for i in found}
  return [Patch(facecolor=tuple(palette[i] / 255), edgecolor="0.5", linewidth=0.5, label=label) for i, label in labels.items()]
