"""The notebook's outputs, made anew: python experiments/explore.py

Runs experiments/explore.ipynb from top to bottom in a kernel of this Python and keeps it with its outputs: three to
four minutes on two cores that have nothing else to do. Needs the extra "notebook".
"""

import json
import pathlib
import sys
import tempfile

from mnv3_jax.errors import FatalError
from mnv3_jax.runs.directory import write_atomically

NOTEBOOK = pathlib.Path(__file__).with_suffix(".ipynb")

# seconds that a cell may take
PATIENCE = 600


def source():
  """The notebook as it is kept, a notebook of nbformat."""
  import nbformat

  return nbformat.read(NOTEBOOK, as_version=4)


def execute(notebook, folder):
  """Fills in a notebook's outputs: runs it in `folder`, in a kernel of this very Python.

  Raises:
    nbclient.exceptions.CellExecutionError: where a cell fails.
  """
  import nbclient
  from jupyter_client.kernelspec import KernelSpecManager
  from jupyter_client.manager import AsyncKernelManager

  # without folders to look in, "python3" is the Python that asks, whatever kernels a user has
  kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
  place = {"metadata": {"path": str(folder)}}
  client = nbclient.NotebookClient(notebook, km=kernel, timeout=PATIENCE, record_timing=False, resources=place)
  client.execute(cleanup_kc=True)


def cleaned(notebook):
  """The notebook as it is kept: sources and outputs, and nothing of when and where they were made."""
  cells = [_cell(cell) for cell in notebook["cells"]]
  metadata = {
    "colab": {"provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
  }
  return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell):
  same = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": {}}
  if cell["cell_type"] == "code":
    same |= {"execution_count": cell["execution_count"], "outputs": [_output(output) for output in cell["outputs"]]}
  return {**same, "source": _lines(cell["source"])}


def _output(output):
  """An output without its identifiers; text is kept by lines, as Jupyter does."""
  if output["output_type"] == "stream":
    return {"name": output["name"], "output_type": "stream", "text": _lines(output["text"])}
  data = {kind: _lines(value) if kind.startswith("text/") else value for kind, value in output["data"].items()}
  sizes = {kind: value for kind, value in output["metadata"].items() if kind.startswith("image/")}
  kept = {"data": data, "metadata": sizes, "output_type": output["output_type"]}
  return kept | ({"execution_count": output["execution_count"]} if output["output_type"] == "execute_result" else {})


def _lines(text):
  return (text if isinstance(text, str) else "".join(text)).splitlines(keepends=True)


def main():
  """The command line."""
  notebook = source()
  from nbclient.exceptions import CellExecutionError

  with tempfile.TemporaryDirectory() as folder:
    try:
      execute(notebook, folder)
    # nbclient asserts that a kernel lives
    except (CellExecutionError, AssertionError) as error:
      raise FatalError(f"{NOTEBOOK} is not written: a cell failed\n{error}") from None
  write_atomically(NOTEBOOK, json.dumps(cleaned(notebook), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
  from mnv3_jax.__main__ import end

  sys.exit(end(main))
