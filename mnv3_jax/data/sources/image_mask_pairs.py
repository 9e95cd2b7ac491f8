"""Photos with their masks, as files: a source of data sets for segmentation."""

import functools
import zlib

from PIL import Image

from mnv3_jax.data.sources.label_maps import WrongMask
from mnv3_jax.data.transforms.decoding import colour, decoded
from mnv3_jax.errors import UsageError


class Pairs:
  """A source of photos with masks.

  Such a source has len(), read(i), name(i), size(i) and a fingerprint; folder.Part is some of one.

  Args:
    root: the folder of which the fingerprint names the files.
    files: [(path of a photo, path of its mask, the mask's LabelMap)].
  """

  def __init__(self, root, files):
    self.root, self.files = root, files

  def __len__(self):
    return len(self.files)

  def name(self, i):
    """Of photo `i`, for people."""
    return str(self.files[i][0])

  def read(self, i):
    """(PIL image in RGB, (height, width) uint8 train ids) of photo `i`, as stored: what Exif says of its turning is ignored.

    Raises:
      UsageError: naming the file that is damaged or no image.
      WrongMask: naming the file that is no mask, or one of another size than its photo's.
    """
    photo, mask, label_map = self.files[i]
    return pair(content_of(photo), photo, content_of(mask), mask, label_map)

  def size(self, i):
    """(height, width) of photo `i` in pixels from the first bytes of its file; None where they do not say."""
    try:
      with Image.open(self.files[i][0]) as image:
        return image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
      return None

  @functools.cached_property
  def fingerprint(self):
    """A word that is another one as soon as a photo or mask is added, renamed or gone, or has another size in bytes."""
    lines = "".join(
      f"{path.relative_to(self.root)} {path.stat().st_size}\n" for photo, mask, _ in self.files for path in (photo, mask)
    )
    return f"{len(self)} photos with masks, {zlib.crc32(lines.encode()):08x}"


def pair(photo, photo_name, mask, mask_name, label_map):
  """What Pairs.read gives, from the bytes of two files and their names."""
  image = colour(decoded(photo, photo_name))
  labels = label_map.read(mask, mask_name)
  height, width = labels.shape
  if image.size != (width, height):
    raise WrongMask(
      f"{str(mask_name)!r} is a mask of {width} x {height} pixels, but its photo {str(photo_name)!r} has "
      f"{image.width} x {image.height}"
    )
  return image, labels


def content_of(path):
  """The bytes of a file; raises UsageError with its name where it cannot be read."""
  try:
    return path.read_bytes()
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
