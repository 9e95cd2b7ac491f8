"""Image files of many kinds, all of one square image, for tests of decoders."""

import io
import itertools
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 48
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
SHORT, LONG, BYTE, ASCII, RATIONAL, SLONG = 3, 4, 1, 2, 5, 9


def picture(mode="RGB", seed=0):
  """Returns an image without any symmetry."""
  rng = np.random.default_rng(seed)
  rough = rng.integers(0, 256, (6, 7, 3), np.uint8)
  return Image.fromarray(rough).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert(mode)


def save(image, kind, **how):
  """Encodes an image."""
  out = io.BytesIO()
  image.save(out, kind, **how)
  return out.getvalue()


def tiff(orientation, order="<", kind=SHORT, at=8, more=(), count=1):
  """Returns Exif data: IFD0 at an offset, with an orientation and entries (tag, type, count, four bytes)."""
  entries = [*more]
  if orientation is not None:
    value = {SHORT: "H2x", LONG: "I", BYTE: "B3x", SLONG: "i"}[kind]
    entries.append((0x0112, kind, count, struct.pack(order + value, orientation)))
  entries.sort(key=lambda entry: entry[0])
  table = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
  head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
  return head.ljust(at, b"\0") + struct.pack(order + "H", len(entries)) + table + b"\0\0\0\0"


def segment(marker, payload):
  """Returns a segment of a JPEG file."""
  return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def exif(*arguments, **how):
  """Returns an APP1 segment with an orientation."""
  return segment(0xE1, EXIF + tiff(*arguments, **how))


def xmp(orientation, element=False):
  """Returns an XMP packet with an orientation."""
  if element:
    return b"<x:xmpmeta><tiff:Orientation>%d</tiff:Orientation></x:xmpmeta>" % orientation
  return b'<x:xmpmeta tiff:Orientation="%d"/>' % orientation


def icc(n):
  """Returns APP2 segments with a profile of `n` bytes."""
  parts = [bytes(min(60000, n - i)) for i in range(0, n, 60000)]
  return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((i + 1, len(parts))) + part) for i, part in enumerate(parts))


def insert(content, *segments, after_jfif=True):
  """Inserts segments into a JPEG file, behind its JFIF segment or in place of it."""
  rest = content[2 + 18 :] if content[6:10] == b"JFIF" else content[2:]
  jfif = content[2:20] if content[6:10] == b"JFIF" and after_jfif else b""
  return b"\xff\xd8" + jfif + b"".join(segments) + rest


def jpegs():
  """Returns JPEG files by name."""
  plain = save(picture(), "JPEG", quality=90)
  photoshop = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 6) + b"abcdef")
  files = {f"exif_{o}_{order == '<'}": insert(plain, exif(o, order)) for o in range(1, 9) for order in "<>"}
  files |= {f"tag_type_{kind}_{o}": insert(plain, exif(o, kind=kind)) for kind in (BYTE, LONG, SLONG) for o in (1, 6)}
  packets = {"attribute": xmp(6), "element": xmp(8, True), "upright": xmp(1)}
  files |= {f"xmp_{name}": insert(plain, segment(0xE1, XMP + packet)) for name, packet in packets.items()}
  before = {"xmp": segment(0xE1, XMP + b"<x/>"), "icc": icc(3000), "photoshop": photoshop, "comment": segment(0xFE, b"hello")}
  for n in (1, 2, 3, 4):
    for names in itertools.permutations(before, n) if n < 4 else [tuple(before)]:
      if n < 3 or names[0] < names[-1]:
        files[f"exif_after_{'_'.join(names)}"] = insert(plain, *(before[name] for name in names), exif(5 + n % 3))
  thumbnail = (0x0201, LONG, 1, b"\0\0\0\0")
  files |= {
    "exif_before_jfif": insert(plain, exif(6), plain[2:20], after_jfif=False),
    "exif_without_jfif": insert(plain, exif(6), after_jfif=False),
    "no_jfif": insert(plain, after_jfif=False),
    "ifd_at_the_end": insert(plain, exif(6, at=5000)),
    "upright_ifd_at_the_end": insert(plain, exif(1, at=5000)),
    "big_profile_then_exif": insert(plain, icc(130_000), exif(6)),
    "big_profile": insert(plain, icc(130_000)),
    "two_exif": insert(plain, exif(1), exif(6)),
    "exif_1_xmp_6": insert(plain, exif(1), segment(0xE1, XMP + xmp(6))),
    "xmp_1_exif_6": insert(plain, segment(0xE1, XMP + xmp(1)), exif(6)),
    "orientation_0": insert(plain, exif(0)),
    "orientation_9": insert(plain, exif(9)),
    "count_2": insert(plain, exif(6, count=2)),
    "no_orientation": insert(plain, exif(None, more=[thumbnail])),
    "exif_is_no_tiff": insert(plain, segment(0xE1, EXIF + b"no TIFF at all")),
    "exif_is_cut_off": insert(plain, segment(0xE1, EXIF + tiff(6)[:14])),
    "exif_prefix_twice": insert(plain, segment(0xE1, EXIF + EXIF + tiff(6))),
    "resolution_is_no_fraction": insert(plain, exif(1, more=[(0x011A, ASCII, 2, b"7\0\0\0"), (0x0128, SHORT, 1, b"\2\0\0\0")])),
    "trailing_bytes": plain + b"trailing",
    "trailing_zeros": plain + bytes(1000),
    "fill_bytes": plain[:2] + b"\xff\xff" + plain[2:],
  }
  for subsampling, progressive in itertools.product((0, 1, 2), (False, True)):
    how = {"subsampling": subsampling, "progressive": progressive}
    files[f"subsampling_{subsampling}_{progressive}"] = save(picture(), "JPEG", quality=75, **how)
  cmyk = save(picture("CMYK"), "JPEG", quality=90)
  at = cmyk.index(b"Adobe") + 11
  files |= {
    "grey": save(picture("L"), "JPEG", quality=60),
    "grey_progressive_exif": insert(save(picture("L"), "JPEG", progressive=True), exif(3)),
    "restart": save(picture(), "JPEG", restart_marker_blocks=2),
    "optimized": save(picture(), "JPEG", quality=10, optimize=True),
    "cmyk": cmyk,
    "cmyk_without_adobe": cmyk.replace(cmyk[at - 15 : at + 1], b""),
    "ycck": cmyk[:at] + b"\2" + cmyk[at + 1 :],
    "adobe_rgb": insert(plain, segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"), after_jfif=False),
    "adobe_ycbcr": insert(plain, segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"), after_jfif=False),
    "rgb_ids": save(picture(), "JPEG", keep_rgb=True),
    "mpo": save(picture(), "MPO", save_all=True, append_images=[picture(seed=1)], exif=EXIF + tiff(6)),
  }
  return {f"{name}.jpg": content for name, content in files.items()}


def chunk(kind, data):
  """Returns a chunk of a PNG file."""
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, bits, color, *chunks, interlaced=False):
  """Encodes rows of samples (h, w, channels) as a PNG file."""

  def rows(part):
    packed = part.reshape(len(part), -1)
    if bits == 16:
      packed = packed.astype(">u2").view(np.uint8).reshape(len(part), -1)
    elif bits < 8:
      packed = np.packbits(np.unpackbits(packed.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :].reshape(len(part), -1), 1)
    return b"".join(b"\0" + row.tobytes() for row in packed.astype(np.uint8))

  steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
  parts = [values[top::down, left::across] for top, left, down, across in steps] if interlaced else [values]
  header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, color, 0, 0, int(interlaced))
  data = chunk(b"IDAT", zlib.compress(b"".join(map(rows, parts))))
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + data + chunk(b"IEND", b"")


def pngs():
  """Returns PNG files by name."""
  grey, rgb, rgba = (np.asarray(picture(mode)).reshape(SIDE, SIDE, -1) for mode in ("L", "RGB", "RGBA"))
  deep = rgb.astype(int) * 257 - 60
  noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
  palette = chunk(b"PLTE", np.random.default_rng(1).integers(0, 256, 48, np.uint8).tobytes())
  files = {f"grey_{bits}": png(grey >> (8 - bits), bits, 0) for bits in (1, 2, 4, 8)}
  files |= {f"palette_{bits}": png(grey >> (8 - bits), bits, 3, palette) for bits in (1, 2, 4)}
  files |= {f"interlaced_{bits}": png(grey >> (8 - bits), bits, 0, interlaced=True) for bits in (1, 4, 8)}
  profile = b"\nexif\n%8d\n" % len(EXIF + tiff(6)) + (EXIF + tiff(6)).hex().encode() + b"\n"
  files |= {
    "grey_16": png(np.clip(deep[..., :1], 0, 65535), 16, 0),
    "grey_16_of_12": png(deep[..., :1].clip(0) >> 4, 16, 0),
    "grey_16_exif": png(deep[..., :1].clip(0), 16, 0, chunk(b"eXIf", tiff(6))),
    "rgb_16": png(deep.clip(0), 16, 2),
    "rgb": png(rgb, 8, 2),
    "rgb_interlaced": png(rgb, 8, 2, interlaced=True),
    "rgba": png(np.concatenate([rgb, grey], 2), 8, 6),
    "rgba_16": png(np.concatenate([deep.clip(0), deep[..., :1].clip(0)], 2), 16, 6),
    "opaque": png(rgba, 8, 6),
    "grey_alpha": png(np.concatenate([grey, rgb[..., :1]], 2), 8, 4),
    "grey_alpha_16": png(deep[..., :2].clip(0), 16, 4),
    "noise": png(noise, 8, 2),
    "grey_trns": png(grey, 8, 0, chunk(b"tRNS", b"\0\x80")),
    "rgb_trns": png(rgb, 8, 2, chunk(b"tRNS", bytes(6))),
    "palette_trns": png(grey >> 4, 4, 3, palette, chunk(b"tRNS", bytes(range(0, 160, 10)))),
    "gamma": png(rgb, 8, 2, chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"sBIT", b"\5\5\5")),
    "exif": png(rgb, 8, 2, chunk(b"eXIf", tiff(6, ">"))),
    "exif_after_data": png(rgb, 8, 2)[:-12] + chunk(b"eXIf", tiff(8)) + chunk(b"IEND", b""),
    "raw_profile": png(rgb, 8, 2, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))),
    "xmp": png(rgb, 8, 2, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(3))),
    "profile_then_exif": png(
      rgb, 8, 2, chunk(b"iCCP", b"x\0\0" + zlib.compress(noise.tobytes()[:3000])), chunk(b"eXIf", tiff(6))
    ),
    "text_of_3_mb": png(rgb, 8, 2, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(b"x" * 3_000_000)))),
    "animated": save(picture(), "PNG", save_all=True, append_images=[picture(seed=1)]),
  }
  return {f"{name}.png": content for name, content in files.items()}


def bmps():
  """Returns BMP files by name."""
  files = {mode: save(picture(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")}

  def bmp(bits, compression, data, colors=b"", masks=b""):
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, bits, compression, len(data), 0, 0, len(colors) // 4, 0)
    start = 14 + len(header + masks + colors)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + masks + colors + data

  grey = np.asarray(picture("L"))[::-1]
  colors = np.random.default_rng(2).integers(0, 256, 1024, np.uint8).tobytes()
  runs = b"".join(b"".join(bytes((1, v)) for v in row) + b"\0\0" for row in grey) + b"\0\1"
  nibbles = ((grey[:, ::2] >> 4) << 4 | grey[:, 1::2] >> 4).astype(np.uint8).tobytes()
  words = (grey.astype("<u2") * 257).tobytes()
  files |= {
    "palette_8": bmp(8, 0, grey.tobytes(), colors),
    "palette_4": bmp(4, 0, nibbles, colors[:64]),
    "rle_8": bmp(8, 1, runs, colors),
    "rgb_555": bmp(16, 0, words),
    "rgb_565": bmp(16, 3, words, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
  }
  return {f"{name}.bmp": content for name, content in files.items()}


def others():
  """Returns files of other formats by name."""
  image, second = picture(), picture(seed=1)
  small = save(picture("P").crop((0, 0, 30, 20)), "GIF")
  turned = EXIF + tiff(6)
  deep = Image.fromarray(np.asarray(picture("L")).astype(np.uint16) * 257)
  files = {f"{mode}.gif": save(picture(mode), "GIF") for mode in ("1", "L", "P", "RGB", "RGBA")}
  files |= {
    "animated.gif": save(image, "GIF", save_all=True, append_images=[second]),
    "small_frame.gif": small[:6] + struct.pack("<HH", SIDE, SIDE) + small[10:],
    "transparent.gif": save(picture("P"), "GIF", transparency=3),
    "lossy.webp": save(image, "WEBP"),
    "lossless.webp": save(image, "WEBP", lossless=True),
    "alpha.webp": save(picture("RGBA"), "WEBP"),
    "exif.webp": save(image, "WEBP", exif=turned),
    "animated.webp": save(image, "WEBP", save_all=True, append_images=[second]),
    "plain.avif": save(image, "AVIF"),
    "exif.avif": save(image, "AVIF", exif=turned),
    "pixels.tga": save(image, "TGA"),
    "pixels.ppm": save(image, "PPM"),
    "pixels.pgm": save(picture("L"), "PPM"),
    "deep.pgm": b"P5 48 48 65535\n" + np.asarray(deep).astype(">u2").tobytes(),
    "icon.ico": save(image, "ICO", sizes=[(SIDE, SIDE)]),
    "pixels.jp2": save(image, "JPEG2000"),
    "deep.tif": save(deep, "TIFF"),
    "exif.tif": save(image, "TIFF", exif=Image.Exif()),
    "lzw.tif": save(image, "TIFF", compression="tiff_lzw"),
    "jpeg.tif": save(image, "TIFF", compression="jpeg"),
  }
  exif_data = Image.Exif()
  exif_data[0x0112] = 6
  files["turned.tif"] = save(image, "TIFF", exif=exif_data)
  files["turned_deep.tif"] = save(deep, "TIFF", exif=exif_data)
  files |= {f"{mode}.tif": save(picture(mode), "TIFF") for mode in ("1", "L", "P", "RGBA", "CMYK", "LAB", "F", "I", "LA")}
  return files


def files():
  """Returns all files by name."""
  return jpegs() | pngs() | bmps() | others()
