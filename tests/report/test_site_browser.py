"""The page of all tables in a real browser."""

import itertools

import pytest
from conftest import ok

# what only these tests need is imported by them: they must fail, not vanish, where it is not installed
pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  import browser

  with browser.Browser(tmp_path_factory.mktemp("chromium")) as b:
    yield b


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
  """Every table, with the kept runs and without any."""
  folder = tmp_path_factory.mktemp("pages")
  for name, runs in (("kept", "experiments/results"), ("none", folder / "nowhere")):
    # a process of its own: the tests of SLURM after these fork, which no process may that holds JAX
    ok("table", "--all", "--scale", "mini", "--runs", runs, "--out", folder / name)
  return folder


@pytest.mark.parametrize("name", ["kept", "none"])
def test_nothing_is_broken_at_any_size_in_any_colour(browser, pages, name):
  for size, scheme in itertools.product(((390, 844), (1280, 800)), ("light", "dark")):
    problems, found = browser.checked(pages / name / "index.html", size, scheme, pages / f"{name}_{size[0]}_{scheme}.png")
    assert problems == [], (size, scheme)
    assert found["images"] >= 15 and found["shown"] == size[0]
    assert found["background"] == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


@pytest.mark.parametrize(
  "body, sentence",
  [
    ('<img src="nowhere.png" alt="">', "broken image: nowhere.png"),
    ("<script>console.error('oh')</script>", "console: ['oh']"),
    ("<script>nothing.of.this()</script>", "exception"),
    ('<p style="width: 2000px">wide</p>', "the page is "),
    ('<p style="font-size: 9px">small</p>', "text of 9 px"),
    ('<script src="nowhere.js"></script>', "not loaded"),
  ],
)
def test_what_is_wrong_is_noticed(browser, tmp_path, body, sentence):
  page = tmp_path / "index.html"
  page.write_text(
    f'<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><body><p>text</p>{body}</body>'
  )
  problems, _ = browser.checked(page, (390, 844))
  assert any(sentence in problem for problem in problems), problems
