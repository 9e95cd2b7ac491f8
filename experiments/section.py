"""A part of a document that a program writes, between two marks."""


def put(text, begin, end, content):
  """The text with `content` between its marks `begin` and `end`."""
  before, rest = text.split(begin)
  return before + begin + content + end + rest.split(end, 1)[1]
