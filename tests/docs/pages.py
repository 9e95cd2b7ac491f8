"""Markdown pages of the documentation: blocks, commands, links, and running them."""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from conftest import ROOT

DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
# the line above a block that only a reader with a TPU, a phone, a cluster or a download can run
NOT_RUN = re.compile(r"\*Not run by the tests\b.+\*$")

# runs Python blocks one after the other with the same variables; reads and answers by two pipes
SESSION = """
import json, sys, traceback
asked, answers = open(int(sys.argv[1])), open(int(sys.argv[2]), "w")
names = {"__name__": "__main__"}
for line in asked:
  try:
    exec(compile(json.loads(line), "<block>", "exec"), names)
    answer = ""
  except BaseException:
    answer = traceback.format_exc()
  print(json.dumps(answer), file=answers, flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Block:
  """Fenced code block.

  Attributes:
    language: "sh" and "python" are run, "bash" is not.
    code: its text.
    above: the paragraph before it.
    line: of the page, from 1.
  """

  language: str
  code: str
  above: str
  line: int


def name(page: pathlib.Path) -> str:
  """Names a page in test ids."""
  return page.relative_to(ROOT).as_posix()


def blocks(page: pathlib.Path) -> list[Block]:
  """Returns the code blocks of a page in their order."""
  text, found = page.read_text(), []
  for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M):
    before = text[: match.start()]
    above = before.rstrip().rsplit("\n\n", 1)[-1].strip()
    found.append(Block(match[1], match[2], above.replace("\n", " "), before.count("\n") + 1))
  return found


def commands(block: Block) -> list[str]:
  """Returns the command lines of a shell block, without comments, continued lines joined."""
  joined = re.sub(r"\\\n\s*", "", block.code)
  return [line for line in (line.split("  #")[0].strip() for line in joined.splitlines()) if line]


def calls(block: Block) -> list[list[str]]:
  """Returns the words of every mnv3 command of a shell block."""
  return [shlex.split(line) for line in commands(block) if line.startswith("mnv3 ")]


def prose(page: pathlib.Path) -> str:
  """Returns the text of a page without its code blocks."""
  return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)


def anchors(page: pathlib.Path) -> set[str]:
  """Returns the anchors of a page's headings."""
  headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def checkout(folder: pathlib.Path) -> pathlib.Path:
  """Copies what a clone has, uncommitted changes included, to a folder."""
  files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
  for file in files.stdout.split("\n"):
    if file and (ROOT / file).is_file():
      (folder / file).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / file, folder / file)
  return folder


class Session:
  """Runs the blocks of a page in a folder, with this Python and this project: a context.

  Args:
    folder: a checkout.
  """

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}

  def __enter__(self) -> "Session":
    theirs, asked = os.pipe()
    answers, ours = os.pipe()
    self.output = tempfile.TemporaryFile("w+")
    self.process = subprocess.Popen(
      [sys.executable, "-c", SESSION, str(theirs), str(ours)],
      cwd=self.folder,
      env=self.environment,
      pass_fds=(theirs, ours),
      stdin=subprocess.DEVNULL,
      stdout=self.output,
      stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    os.close(ours)
    self.asked, self.answers = os.fdopen(asked, "w"), os.fdopen(answers)
    return self

  def __exit__(self, *_: object) -> None:
    self.asked.close()
    self.process.wait(60)
    self.answers.close()
    self.output.close()

  def python(self, code: str) -> None:
    """Runs a Python block; fails the test if it raises."""
    print(json.dumps(code), file=self.asked, flush=True)
    answer = self.answers.readline()
    self.output.seek(0)
    assert answer and not json.loads(answer), self.output.read()[-1000:] + (json.loads(answer) if answer else "")

  def shell(self, line: str) -> None:
    """Runs a command line of a shell block; fails the test if it fails."""
    words = shlex.split(line)
    if words[0] in ("make", "source", "pip"):
      # the README's test runs these in a fresh clone
      return
    programs = {"mnv3": [sys.executable, "-m", "mnv3_jax"], "python": [sys.executable]}
    assert words[0] in programs, f"{line!r} is no command that the tests know"
    done = subprocess.run(
      [*programs[words[0]], *words[1:]],
      cwd=self.folder,
      env=self.environment,
      capture_output=True,
      text=True,
      timeout=1500,
      stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
