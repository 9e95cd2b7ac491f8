"""Files that several processes make together: each is made once, whoever fails."""

import pathlib
import threading

import pytest

from mnv3_jax.errors import FatalError
from mnv3_jax.runs.locking import locked
from mnv3_jax.search import claims
from mnv3_jax.search.claims import claimed, make_all


def test_a_file_is_claimed_by_one(tmp_path):
  with claimed(tmp_path / "a.json") as first, claimed(tmp_path / "a.json") as second, claimed(tmp_path / "b.json") as other:
    assert (first, second, other) == (True, False, True)
  with claimed(tmp_path / "a.json") as again:
    assert again
  # an error inside is not taken for a lock that another process has
  with pytest.raises(FatalError), claimed(tmp_path / "a.json"):
    raise FatalError("inside")


def test_every_file_is_made_once(tmp_path, monkeypatch):
  monkeypatch.setattr(claims, "POLL_INTERVAL", 0.001)
  made, seen = [], []

  def maker(file):
    def make():
      made.append(file.name)
      file.write_text("made")

    return make

  def work():
    makers = {file: maker(file) for file in (tmp_path / f"{i}.json" for i in range(30))}
    make_all(makers, on_progress=lambda done, total: seen.append((done, total)))

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  assert sorted(made) == sorted(f"{i}.json" for i in range(30)) and seen.count((30, 30)) == 4
  assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".json")] == []


def test_what_another_has_left_is_made(tmp_path, monkeypatch):
  """The lock of another is waited for; once it is released without a file, the file is made here."""
  file, waited = tmp_path / "a.json", []
  lock = locked(file)

  def sleep(seconds):
    waited.append(seconds)
    if len(waited) == 3:
      lock.__exit__(None, None, None)

  monkeypatch.setattr(claims.time, "sleep", sleep)
  lock.__enter__()
  make_all({file: lambda: file.write_text("made")})
  assert len(waited) == 3 and file.read_text() == "made"


def test_a_wait_ends(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(claims, "POLL_INTERVAL", 0.001)
  with locked(tmp_path / "a.json"):
    make_all({tmp_path / "a.json": pytest.fail}, over=lambda: asked.append(1) or len(asked) == 3)
  assert not pathlib.Path(tmp_path / "a.json").exists()


def test_a_maker_that_fails_ends_the_wait(tmp_path):
  def fail():
    raise FatalError("the loss is not finite")

  with pytest.raises(FatalError):
    make_all({tmp_path / "a.json": fail})
  with claimed(tmp_path / "a.json") as mine:
    assert mine
