"""Objects of the Xet protocol as its server reads them: shards list files as chunks of xorbs, and xorbs have their bytes.

Layouts of https://huggingface.co/docs/xet (shard, xorb); only what hf_xet 1.8 writes.
"""

import dataclasses
import struct

# of hashes that end a section of a shard
END = b"\xff" * 32
SHARD_TAG = b"HFRepoMetaData\0"
VERIFIED, WITH_SHA256 = 1 << 31, 1 << 30
# compression of a chunk
PLAIN, LZ4, GROUPED_LZ4 = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Term:
  """Chunks `start` to `end` of a xorb, `length` bytes of a file."""

  xorb: str
  length: int
  start: int
  end: int


def hexadecimal(digest):
  """A hash as the protocol writes it: four little-endian numbers."""
  return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def files_of(shard):
  """(terms by hash of the file, hash of the file by SHA-256) of a shard."""
  assert shard.startswith(SHARD_TAG), shard[:32]
  files, by_sha256, at = {}, {}, 48
  while (digest := shard[at : at + 32]) != END:
    flags, count = struct.unpack_from("<2I", shard, at + 32)
    entries = [shard[at + 48 * i : at + 48 * (i + 1)] for i in range(1, count + 1)]
    name = hexadecimal(digest)
    files[name] = [Term(hexadecimal(e[:32]), *struct.unpack_from("<3I", e, 36)) for e in entries]
    at += 48 * (1 + count * (2 if flags & VERIFIED else 1))
    if flags & WITH_SHA256:
      by_sha256[hexadecimal(shard[at : at + 32])] = name
      at += 48
  return files, by_sha256


def chunks_of(xorb):
  """(first byte, byte after the last, content) of each chunk of a xorb."""
  found, at = [], 0
  while at < len(xorb) and not xorb.startswith(b"XETBLOB", at):
    packed, scheme, size = int.from_bytes(xorb[at + 1 : at + 4], "little"), xorb[at + 4], xorb[at + 5 : at + 8]
    content = unpacked(xorb[at + 8 : at + 8 + packed], scheme)
    assert xorb[at] == 0 and len(content) == int.from_bytes(size, "little")
    found.append((at, at + 8 + packed, content))
    at += 8 + packed
  return found


def unpacked(data, scheme):
  """The content of a chunk."""
  if scheme == PLAIN:
    return data
  content = lz4_frame(data)
  if scheme == LZ4:
    return content
  assert scheme == GROUPED_LZ4, scheme
  # first all bytes whose number is divisible by four, then those with the rest 1
  found, at = bytearray(len(content)), 0
  for rest in range(4):
    size = len(range(rest, len(content), 4))
    found[rest::4] = content[at : at + size]
    at += size
  return bytes(found)


def lz4_frame(data):
  """The content of a frame of LZ4, without its checksums."""
  assert data[:4] == b"\x04\x22\x4d\x18", data[:4]
  flags, found = data[4], bytearray()
  at = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
  while size := int.from_bytes(data[at : at + 4], "little"):
    block = data[at + 4 : at + 4 + (size & 0x7FFFFFFF)]
    if size >> 31:
      found += block
    else:
      lz4_block(block, found)
    at += 4 + len(block) + (4 if flags & 16 else 0)
  return bytes(found)


def lz4_block(block, found):
  """Appends the content of a block of LZ4; `found` has that of earlier ones."""
  at = 0

  def length(of, at):
    while of >= 15 and block[at] == 255:
      of, at = of + 255, at + 1
    return (of + block[at], at + 1) if of >= 15 else (of, at)

  while at < len(block):
    token = block[at]
    literals, at = length(token >> 4, at + 1)
    found += block[at : at + literals]
    at += literals
    if at == len(block):
      return
    distance = int.from_bytes(block[at : at + 2], "little")
    size, at = length(token & 15, at + 2)
    for _ in range(size + 4):
      found.append(found[-distance])
