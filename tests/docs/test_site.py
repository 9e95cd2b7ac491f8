"""The documentation site, built as `make docs` builds it, in a real browser."""

import itertools
import os
import pathlib
import re
import subprocess
import sys
from urllib.parse import unquote

import pages
import pytest
from conftest import ROOT

# what only these tests need is imported by them: they must fail, not vanish, where it is not installed
pytestmark = pytest.mark.engines
PAGES = [page.relative_to(pages.DOCS).with_suffix(".html").as_posix() for page in pages.PAGES[1:]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  import browser

  with browser.Browser(tmp_path_factory.mktemp("chromium")) as b:
    yield b


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  """The folder of the built site."""
  folder = tmp_path_factory.mktemp("site")
  words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
  environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
  done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
  assert done.returncode == 0, done.stdout + done.stderr
  return folder


@pytest.mark.parametrize("page", PAGES)
def test_pages_at_any_size_in_any_colour(browser, site, page):
  for size, scheme in itertools.product(((390, 844), (1280, 800)), ("light", "dark")):
    problems, found = browser.checked(site / page, size, scheme, site / f"{size[0]}_{scheme}.png")
    assert problems == [], (size, scheme)
    assert found["shown"] == size[0]
    assert (found["background"] == "rgb(255, 255, 255)") == (scheme == "light")


def test_nothing_comes_from_another_server(site):
  for file in site.rglob("*.html"):
    text = file.read_text()
    assert not re.findall(r"<(?:script|link|img|iframe|source)[^>]*?(?:src|href)=\"?(?:https?:)?//", text), file
  for file in site.rglob("*.css"):
    assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", file.read_text()), file


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(site, page):
  text = (site / page).read_text()
  for target in re.findall(r"<a[^>]*?\shref=\"([^\"]+)\"", text):
    if re.match(r"(https?|mailto):", target):
      continue
    path, _, anchor = unquote(target).partition("#")
    file = pathlib.Path(os.path.normpath((site / page).parent / path)) if path not in ("", ".") else site / page
    file = file / "index.html" if file.is_dir() else file
    assert file.is_file(), target
    assert not anchor or re.search(rf'\b(?:id|name)="?{re.escape(anchor)}"?[\s>]', file.read_text()), target


def test_search_finds_a_function_from_a_file(site, tmp_path):
  import shutil

  program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
  words = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000"]
  address = f"{(site / 'index.html').as_uri()}?q=with_output_stride"
  shown = subprocess.run([program, *words, "--dump-dom", address], capture_output=True, text=True, timeout=120).stdout
  assert re.search(r"\d+ matching documents?", shown)
