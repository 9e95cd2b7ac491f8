"""mkdocs hooks: a site that needs no other server, from pages that can also be read on GitHub.

GitHub follows links out of docs/ in the repository; the site cannot. Kept images (../experiments/results/...) become files of
the site, other files of the repository become links to GitHub.
"""

import ast
import pathlib
import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent
REPOSITORY = "https://github.com/mnv3-jax/mnv3_jax/blob/main/"
IMAGES = "experiments/results"
# the offline plugin loads this from another server; javascripts/file_worker.js does the same
SHIM = "https://unpkg.com/iframe-worker/shim"


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the kept images to the files of the site."""
  for image in sorted((ROOT / IMAGES).rglob("*.png")):
    path = image.relative_to(ROOT).as_posix()
    files.append(File.generated(config, path, abs_src_path=str(image)))
  return files


def public_names() -> dict[str, str]:
  """Returns where each public name of the package is defined: {"train": "mnv3_jax.training.run.train"}."""
  for node in ast.parse((ROOT / "mnv3_jax" / "__init__.py").read_text()).body:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_PUBLIC":
      return {name: place.replace(":", ".") for name, place in ast.literal_eval(node.value).items()}
  raise ValueError("mnv3_jax/__init__.py has no _PUBLIC")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Rewrites the relative links of a page that lead out of docs/, and the names of the public API to their definitions."""
  if page.file.src_uri == "reference/api.md":
    places = public_names()
    # the page of its package has the primary entry
    options = "\n    options: {skip_local_inventory: true}"
    markdown = re.sub(r"^::: mnv3_jax\.(\w+)$", lambda match: f"::: {places[match[1]]}{options}", markdown, flags=re.M)
  folder = posixpath.dirname(page.file.src_uri)

  def rewrite(match: re.Match[str]) -> str:
    path, _, anchor = match[2].partition("#")
    target = posixpath.normpath(posixpath.join("docs", folder, path))
    if target.startswith("docs/"):
      return match[0]
    if target.startswith(IMAGES) and target.endswith(".png"):
      return match[1] + posixpath.relpath(target, folder or ".") + match[3]
    return match[1] + REPOSITORY + target + (f"#{anchor}" if anchor else "") + match[3]

  return re.sub(r"(\]\()(?!https?:)([^)#\s][^)\s]*)(\))", rewrite, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
  """Replaces the script that would come from another server."""
  return output.replace(SHIM, posixpath.relpath("javascripts/file_worker.js", posixpath.dirname(page.file.dest_uri) or "."))


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
  """Replaces it in 404.html too."""
  return output.replace(SHIM, "/javascripts/file_worker.js")
