"""Runs the notebooks and keeps their outputs: python experiments/explore.py [explore] [detect]

Runs experiments/explore.ipynb and experiments/detect.ipynb, or those that are named, from top to bottom in a kernel of this
Python and keeps them with their outputs: three to four minutes and about four on two idle cores. Needs the extra "notebook".
"""

import json
import pathlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.runs.atomic import write_atomically

if TYPE_CHECKING:
  from nbformat import NotebookNode

NOTEBOOK = pathlib.Path(__file__).with_suffix(".ipynb")
NOTEBOOKS = {path.stem: path for path in (NOTEBOOK, NOTEBOOK.with_name("detect.ipynb"))}

# time limit of a cell in seconds
TIMEOUT = 600


def source(path: pathlib.Path = NOTEBOOK) -> "NotebookNode":
  """Reads a kept notebook."""
  import nbformat

  return nbformat.read(path, as_version=4)


def execute(notebook: "NotebookNode", folder: pathlib.Path | str) -> None:
  """Runs a notebook in `folder`, in a kernel of this Python, and fills in its outputs.

  Raises:
    nbclient.exceptions.CellExecutionError: if a cell fails.
  """
  import nbclient
  from jupyter_client.kernelspec import KernelSpecManager
  from jupyter_client.manager import AsyncKernelManager

  # without kernel folders "python3" is this Python, whatever kernels a user has
  kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
  resources = {"metadata": {"path": str(folder)}}
  client = nbclient.NotebookClient(notebook, km=kernel, timeout=TIMEOUT, record_timing=False, resources=resources)
  client.execute(cleanup_kc=True)


def cleaned(notebook: "NotebookNode | dict[str, Any]") -> dict[str, Any]:
  """Returns a notebook with its sources and outputs, without times, identifiers and paths."""
  cells = [_cell(cell) for cell in notebook["cells"]]
  metadata = {
    "colab": {"provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
  }
  return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
  same = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": {}}
  if cell["cell_type"] == "code":
    same |= {"execution_count": cell["execution_count"], "outputs": [_output(output) for output in cell["outputs"]]}
  return {**same, "source": _lines(cell["source"])}


def _output(output: dict[str, Any]) -> dict[str, Any]:
  """Returns an output without its identifiers, with text as lines like Jupyter's."""
  if output["output_type"] == "stream":
    return {"name": output["name"], "output_type": "stream", "text": _lines(output["text"])}
  data = {kind: _lines(value) if kind.startswith("text/") else value for kind, value in output["data"].items()}
  sizes = {kind: value for kind, value in output["metadata"].items() if kind.startswith("image/")}
  kept = {"data": data, "metadata": sizes, "output_type": output["output_type"]}
  return kept | ({"execution_count": output["execution_count"]} if output["output_type"] == "execute_result" else {})


def _lines(text: str | list[str]) -> list[str]:
  return (text if isinstance(text, str) else "".join(text)).splitlines(keepends=True)


def main() -> None:
  """Runs the command line."""
  names = sys.argv[1:] or list(NOTEBOOKS)
  for name in names:
    if name not in NOTEBOOKS:
      raise UsageError(f"no notebook {name!r}; {nearest(name, NOTEBOOKS)}")
  for name in names:
    keep(NOTEBOOKS[name])


def keep(path: pathlib.Path) -> None:
  """Runs a notebook in an empty folder and writes it with its outputs; raises FatalError if a cell fails."""
  notebook = source(path)
  from nbclient.exceptions import CellExecutionError, CellTimeoutError

  with tempfile.TemporaryDirectory() as folder:
    try:
      execute(notebook, folder)
    # nbclient asserts that the kernel is alive
    except (CellExecutionError, CellTimeoutError, AssertionError) as error:
      raise FatalError(f"{path} is not written: a cell failed\n{error}") from None
  write_atomically(path, json.dumps(cleaned(notebook), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
  from mnv3_jax.__main__ import end

  sys.exit(end(main))
