"""One definition of an image's pixels: training and evaluation compared with it on files of many kinds."""

import io
import itertools
import pathlib
import struct

import numpy as np
import pytest
import zoo
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image, ImageOps

from mnv3_jax.config import base
from mnv3_jax.data import image_datasets
from mnv3_jax.data.transforms import decoding, headers
from mnv3_jax.data.transforms.preprocessing import Preprocessing, letterbox
from mnv3_jax.errors import FatalError, UsageError

FIELD = pathlib.Path(__file__).parent / "field"


def expected(content):
  """Pixels by the definition, written with Pillow alone: 16 bits lose the lower byte."""
  image = Image.open(io.BytesIO(content))
  image.load()
  deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
  image = ImageOps.exif_transpose(image)
  if deep:
    image = Image.fromarray((np.asarray(image).astype(int) >> 8).astype(np.uint8))
  return np.asarray(image.convert("RGB"))


def opened(root, side=zoo.SIDE, **changes):
  config = base()
  config.data.update({"dataset": "folder", "dir": str(root), "augment": "none", "eval_split": "train", "crop": 1.0})
  config.update_from_flattened_dict(changes)
  config.data.classes = image_datasets.class_names(config)
  return image_datasets.open_dataset(config, side)


def trained_on(dataset):
  """Training pixels of the first epoch by path, and the messages of broken files."""
  (batch,) = itertools.islice(dataset.train_batches(0), 1)
  indices = batch_indices(dataset)
  images = dataset.preprocessing.denormalize(batch["image"])
  return {dataset.train.files[i][0].name: image for i, image in zip(indices, images, strict=True)}, batch["broken"]


def batch_indices(dataset):
  from mnv3_jax.data.pipelines import tf_stream

  stream = tf_stream.Stream(dataset.train, dataset.order, dataset.distortion, dataset.resolution, dataset.preprocessing)
  return [stream._locate_eagerly(position)[1] for position in range(dataset.batch_size)]


def write(root, files):
  (root / "train" / "cat").mkdir(parents=True)
  for name, content in files.items():
    # by suffixes, the folder would pass over some
    (root / "train" / "cat" / f"{name}.png").write_bytes(content)
  return root


@pytest.mark.parametrize("first", ["jpeg", "png"])
def test_training_pixels_are_the_definition(tmp_path, first):
  files = zoo.files()
  assert len(files) >= 80
  # the first file decides what TensorFlow decodes
  files = {f"{'0' if name.endswith(first[-2:]) else '1'}_{name}": content for name, content in files.items()}
  write(tmp_path, files)
  dataset = opened(tmp_path, **{"train.batch_size": len(files)})
  trained, broken = trained_on(dataset)
  # Pillow takes it for no image
  assert len(broken) == 1 and "resolution_is_no_fraction" in broken[0]
  for name, content in files.items():
    if "resolution_is_no_fraction" not in name:
      pixels = expected(content)
      np.testing.assert_array_equal(trained[f"{name}.png"], pixels, name)
      evaluated = dataset.preprocess(decoding.decode_image(content, name))
      np.testing.assert_array_equal(dataset.preprocessing.denormalize(evaluated), pixels, name)


def test_a_stream_of_both_decoders_resumes_with_the_same_bits(tmp_path):
  write(tmp_path, {name: content for i, (name, content) in enumerate(zoo.files().items()) if i % 6 == 0})
  how = {"data.augment": "inception", "train.batch_size": 7}
  whole = list(itertools.islice(opened(tmp_path, **how).train_batches(0), 6))
  rest = list(itertools.islice(opened(tmp_path, **how).train_batches(2), 4))
  assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(whole[2:], rest, strict=True))


def test_tensorflow_decodes_the_ordinary_files():
  files = zoo.files()
  plain = {name for name, content in files.items() if headers.is_plain(content, len(content), content[-2:])}
  assert {"exif_1_True.jpg", "exif_1_False.jpg", "no_orientation.jpg", "big_profile.jpg", "grey.jpg"} <= plain
  assert {"grey_8.png", "rgb.png", "rgba.png", "noise.png"} <= plain
  assert {f"subsampling_{i}_{progressive}.jpg" for i in range(3) for progressive in (False, True)} <= plain
  assert not any(name.startswith("exif_after") for name in plain)
  content = files["big_profile.jpg"]
  assert headers.is_plain(content[: headers.HEAD], len(content), content[-2:]) is None


segments = st.one_of(
  st.builds(
    zoo.exif,
    st.sampled_from([None, 0, 1, 1, 1, 2, 3, 5, 6, 8, 9]),
    st.sampled_from("<>"),
    kind=st.sampled_from([zoo.SHORT, zoo.SHORT, zoo.LONG, zoo.BYTE]),
    at=st.sampled_from([8, 8, 10, 30, 300]),
    count=st.sampled_from([1, 1, 2, 0]),
    more=st.lists(
      st.tuples(
        st.sampled_from([0x0100, 0x010F, 0x0112, 0x011A, 0x0128, 0x8769]),
        st.integers(0, 13),
        st.integers(0, 9),
        st.sampled_from([b"\1\0\0\0", b"\0\1\0\0", b"\6\0\0\0", b"\x08\0\0\0"]),
      ),
      max_size=3,
    ),
  ),
  st.binary(max_size=40).map(lambda data: zoo.segment(0xE1, zoo.EXIF + data)),
  st.builds(lambda o, element: zoo.segment(0xE1, zoo.XMP + zoo.xmp(o, element)), st.integers(0, 9), st.booleans()),
  st.builds(zoo.segment, st.sampled_from([0xE0, 0xE2, 0xED, 0xEE, 0xFE, 0xE5, 0xDB, 0xC4]), st.binary(max_size=30)),
  st.builds(
    lambda marker, name, rest: zoo.segment(marker, name + rest),
    st.sampled_from([0xE0, 0xE2, 0xED, 0xEE]),
    st.sampled_from([b"JFIF\0", b"Adobe", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\x008BIM\x04\x04\0\0", b"FPXR\0"]),
    st.binary(max_size=20),
  ),
  st.sampled_from([b"\xff", b"\xff\xff", b"\0"]),
  st.just(zoo.icc(5000)),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(segments, max_size=5), st.booleans(), st.sampled_from([None, None, None, 0, 1, 2]))
def test_a_plain_header_is_upright_for_pillow_and_decodes_alike(inserted, after_jfif, cut):
  from mnv3_jax.data.pipelines.tf_stream import tensorflow

  content = zoo.insert(PLAIN, *inserted, after_jfif=after_jfif)
  content = content if cut is None else content[: -cut or None]
  head = content[: headers.HEAD]
  known = headers.is_plain(head, len(content), content[-2:])
  if known is None:
    known = headers.is_plain(content, len(content), content[-2:])
  if known:
    try:
      decoded = tensorflow().io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    except tensorflow().errors.OpError:
      return
    np.testing.assert_array_equal(decoded, np.asarray(decoding.to_rgb(upright(content))))


def upright(content):
  return decoding.apply_exif_orientation(decoding.decode_image(content, "x"))


PLAIN = zoo.save(zoo.picture(), "JPEG", quality=90)


def test_a_crop_of_a_jpeg_is_the_crop_of_its_pixels(tmp_path):
  image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)).resize((700, 900))
  write(tmp_path, {"x": zoo.save(image, "JPEG", subsampling=2, quality=80)})
  dataset = opened(tmp_path, side=301, **{"train.batch_size": 1, "data.crop": 0.43})
  trained, _ = trained_on(dataset)
  pixels = np.asarray(Image.open(tmp_path / "train" / "cat" / "x.png"))
  np.testing.assert_array_equal(trained["x.png"], pixels[299 : 299 + 301, 199 : 199 + 301])


def test_sixteen_bits_lose_their_lower_byte():
  values = np.array([[0, 255, 256, 4095, 30000, 65535]], np.uint16)
  high = [0, 0, 1, 15, 117, 255]
  assert np.asarray(decoding.to_uint8(Image.fromarray(values))).tolist() == [high]
  for kind, content in {
    "PNG": zoo.png(values[..., None], 16, 0),
    "TIFF": zoo.save(Image.fromarray(values), "TIFF"),
    "PGM": b"P5 6 1 65535\n" + values.astype(">u2").tobytes(),
  }.items():
    assert np.asarray(upright(content)).tolist() == [high], kind
  assert np.asarray(upright((FIELD / "grey16_12bit.png").read_bytes())).max() == 15
  for mode in ("I", "F"):
    clipped = np.asarray(decoding.to_uint8(Image.fromarray(values.astype({"I": np.int32, "F": np.float32}[mode]))))
    assert clipped.tolist() == [[0, 255, 255, 255, 255, 255]]
  assert decoding.to_uint8(Image.fromarray(np.array([[np.nan, -1, np.inf]], np.float32))).tobytes() == b"\0\0\xff"


def test_twelve_bits_of_a_tiff_file_are_scaled_by_what_it_declares():
  packed = bytes((0x80, 0x0F, 0xFF))
  tags = [(256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 122), (277, 3, 1, 1)]
  tags += [(278, 4, 1, 1), (279, 4, 1, 3)]
  table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
  content = (b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + table + bytes(4)).ljust(122, b"\0") + packed
  assert np.asarray(upright(content)).tolist() == [[0x80, 0xFF]]


def test_thin_images_take_little_memory():
  image = decoding.open_image(FIELD / "thin_1x65000.png")
  view = Preprocessing()
  assert view.central_crop(image, 224).shape == (224, 224, 3)
  assert letterbox(image, (64, 96), (0, 0, 0)).size == (96, 64)
  embedded = image_datasets.open_dataset(base(), 28)
  assert embedded.preprocess(image).shape == embedded.preprocess(image.rotate(90, expand=True)).shape == (28, 28, 3)
  for size in ((40, 641), (641, 40)):
    rng = np.random.default_rng(0)
    thin = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    wide = thin.resize([round(n * 256 / 40) for n in size], Image.Resampling.BILINEAR)
    left, top = ((n - 224) // 2 for n in wide.size)
    whole = np.asarray(wide.crop((left, top, left + 224, top + 224)), int)
    # the resized length is rounded
    assert np.abs(view.denormalize(view.central_crop(thin, 224)).astype(int) - whole).mean() < 1


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (b"", "an empty file"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
    (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    (b"<!DOCTYPE html><html>404</html>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "PostScript"),
    (zoo.png(np.zeros((1, 1, 1), np.uint8), 8, 0).replace(b"\0\0\0\1\x08", b"\0\0\0\2\x08"), "damaged or cut off"),
    (b"P6 30000 30000 255\n", "too large: 30000 x 30000 pixels|exceeds limit"),
    ((FIELD / "damaged_avif.jpg").read_bytes(), "'x' is damaged"),
    (PLAIN[:500], "'x' is damaged"),
    (b"no image", "not an image"),
  ],
)
def test_what_is_no_image_is_named(content, words):
  with pytest.raises(UsageError, match=words):
    decoding.decode_image(content, "x")


def test_a_picture_with_much_text_is_no_damaged_file():
  assert decoding.open_image(FIELD / "bigtext.png").size == (96, 64)


def test_warnings_of_pillow_stay_quiet(capfd, monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
  cut = zoo.tiff(6, more=[(0x010F, zoo.ASCII, 900, b"\xff\0\0\0")])
  for content in (zoo.insert(PLAIN, zoo.segment(0xE1, zoo.EXIF + cut)), zoo.files()["palette_trns.png"]):
    assert decoding.to_rgb(upright(content)).size == (48, 48)
  assert capfd.readouterr() == ("", "")


def test_a_batch_of_one_broken_image_takes_another(tmp_path):
  files = {f"{i}": zoo.save(zoo.picture(seed=i), "JPEG") for i in range(4)}
  write(tmp_path, files)
  broken = tmp_path / "train" / "cat" / "1.png"
  broken.write_bytes((FIELD / "damaged_avif.jpg").read_bytes())
  batches = list(itertools.islice(opened(tmp_path, **{"train.batch_size": 1}).train_batches(0), 8))
  assert [str(broken) in "".join(b["broken"]) for b in batches].count(True) == 2
  assert all(b["image"].shape == (1, 48, 48, 3) for b in batches)
  again = list(itertools.islice(opened(tmp_path, **{"train.batch_size": 1}).train_batches(3), 5))
  assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(batches[3:], again, strict=True))
  for path in broken.parent.iterdir():
    path.write_bytes(b"no image")
  with pytest.raises(FatalError, match="not one of the 4 images"):
    next(opened(tmp_path, **{"train.batch_size": 1}).train_batches(0))


def test_a_jpeg_too_large_to_decode_is_left_out(tmp_path):
  huge = bytearray(PLAIN)
  at = huge.index(b"\xff\xc0") + 5
  huge[at : at + 4] = struct.pack(">HH", 65000, 65000)
  write(tmp_path, {"0": PLAIN, "1": bytes(huge)})
  _, broken = trained_on(opened(tmp_path, **{"train.batch_size": 2}))
  assert len(broken) == 1 and "1.png" in broken[0] and "4225000000 pixels" in broken[0]


def test_the_sample_files_are_upright(tmp_path):
  names = ["exif6_after_xmp.jpg", "exif6_icc3k.png", "exif6_long.jpg", "palette.bmp", "grey16_12bit.png"]
  for name in names:
    content = (FIELD / name).read_bytes()
    np.testing.assert_array_equal(np.asarray(decoding.to_rgb(upright(content))), expected(content), name)
    assert not headers.is_plain(content, len(content), content[-2:])


chunks = st.lists(
  st.one_of(
    st.sampled_from([b"pHYs", b"tIME", b"gAMA", b"bKGD", b"tRNS", b"acTL", b"sBIT"]).flatmap(
      lambda kind: st.binary(max_size=12).map(lambda data: zoo.chunk(kind, data))
    ),
    st.integers(0, 9).map(lambda o: zoo.chunk(b"eXIf", zoo.tiff(o))),
    st.integers(0, 9).map(lambda o: zoo.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + zoo.xmp(o))),
    st.integers(0, 9).map(lambda o: zoo.chunk(b"tEXt", b"XML:com.adobe.xmp\0" + zoo.xmp(o))),
    st.binary(max_size=20).map(lambda text: zoo.chunk(b"tEXt", text)),
    st.just(zoo.chunk(b"tEXt", b"Comment\0" + bytes(5000))),
    st.just(zoo.chunk(b"pHYs", bytes(9))[:-1] + b"!"),
  ),
  max_size=3,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(chunks, chunks, st.sampled_from(["L", "RGB", "RGBA", "LA"]), st.sampled_from([0, 0, 0, 1, 13]))
def test_a_plain_png_decodes_alike(before, after, mode, cut):
  from mnv3_jax.data.pipelines.tf_stream import tensorflow

  pixels = np.asarray(zoo.picture(mode)).reshape(zoo.SIDE, zoo.SIDE, -1)
  content = zoo.png(pixels, 8, {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[mode], *before)
  content = (content[:-12] + b"".join(after) + content[-12:])[: -cut or None]
  if headers.is_plain(content, len(content), content[-2:]):
    try:
      decoded = tensorflow().io.decode_png(content, channels=3).numpy()
    except tensorflow().errors.OpError:
      return
    np.testing.assert_array_equal(decoded, np.asarray(decoding.to_rgb(upright(content))))
