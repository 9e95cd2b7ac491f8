"""Large JSON files, read in bounded memory: an object whose lists are given item by item."""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

# characters that are read at a time, and of the largest item
CHUNK, MAX_ITEM = 2**22, 2**26
_SPACE = re.compile(r"[ \t\n\r]*")


def read_lists(path: PathLike, on_item: Mapping[str, Callable[[Any], None]]) -> set[str]:
  """Reads the lists of the object in a JSON file.

  Args:
    path: of the file.
    on_item: called with every item of a list by the list's key; other values are read and forgotten.

  Returns:
    The keys of the object.

  Raises:
    UsageError: with the file's name, if it cannot be read, is not such JSON, or has an item beyond MAX_ITEM.
  """
  try:
    with open(path, "rb") as file:
      return _Reader(file.read).read_object(on_item)
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
  except RecursionError:
    raise UsageError(f"{str(path)!r} is damaged: nested too deep") from None
  except _Damaged as error:
    raise UsageError(f"{str(path)!r} is damaged: {first_line(error)}") from None


class _Damaged(ValueError):
  """Content that is no JSON object."""


class _Reader:
  """Parser of a stream of bytes.

  Args:
    read: returns at most so many bytes, none at the end.
  """

  def __init__(self, read: Callable[[int], bytes]) -> None:
    self.read, self.ended = read, False
    self.decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    self.scan = json.JSONDecoder().raw_decode
    # text that has been read, position in it, and characters before it
    self.text, self.at, self.before = "", 0, 0

  def read_object(self, on_item: Mapping[str, Callable[[Any], None]]) -> set[str]:
    keys: set[str] = set()
    self._expect("{", "expected a JSON object")
    if self._next() == "}":
      self.at += 1
    else:
      while True:
        key = self._value()
        if not isinstance(key, str) or key in keys:
          raise self._damaged("expected a key" if not isinstance(key, str) else f"the key {key[:40]!r} comes twice")
        keys.add(key)
        self._expect(":", "expected ':' after a key")
        if key in on_item:
          self._expect("[", f"{key!r} is no list")
          self._items(on_item[key])
        else:
          self._value()
        if not self._more("}"):
          break
    if self._next():
      raise self._damaged("expected the end of the file")
    return keys

  def _items(self, on_item: Callable[[Any], None]) -> None:
    if self._next() == "]":
      self.at += 1
      return
    while True:
      on_item(self._value())
      if not self._more("]"):
        return

  def _more(self, end: str) -> bool:
    """Tells whether a comma follows, not `end`."""
    found = self._next()
    if found not in (",", end) or not found:
      raise self._damaged(f"expected ',' or {end!r}")
    self.at += 1
    return found == ","

  def _expect(self, character: str, message: str) -> None:
    if self._next() != character:
      raise self._damaged(message)
    self.at += 1

  def _next(self) -> str:
    """Skips space and returns the next character; "" at the end."""
    while True:
      match = _SPACE.match(self.text, self.at)
      self.at = match.end() if match else self.at
      if self.at < len(self.text):
        return self.text[self.at]
      if self.ended:
        return ""
      self._fill()

  def _value(self) -> Any:
    """Parses the next value, of which more is read until it is whole."""
    self._next()
    while True:
      try:
        value, end = self.scan(self.text, self.at)
        # a number may go on behind the text
        if end < len(self.text) or self.ended:
          self.at = end
          return value
        message = ""
      except ValueError as error:
        message = first_line(error).split(": line")[0]
      if self.ended:
        raise self._damaged(message)
      if len(self.text) - self.at > MAX_ITEM:
        raise self._damaged(f"{message or 'an item'} in more than {MAX_ITEM:,} characters")
      self._fill()

  def _fill(self) -> None:
    """Reads a chunk, or as much again as is not parsed yet, and forgets what is parsed."""
    rest = self.text[self.at :]
    content = self.read(max(CHUNK, len(rest)))
    self.ended = not content
    try:
      more = self.decode(content, final=self.ended)
    except UnicodeDecodeError:
      raise _Damaged("it is not text in UTF-8") from None
    self.before += self.at
    self.text, self.at = rest + more, 0

  def _damaged(self, message: str) -> _Damaged:
    return _Damaged(f"{message} (character {self.before + self.at:,})")
