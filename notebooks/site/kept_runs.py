"""The notebooks, run for the site. A run is kept in ``build/site-runs`` until the notebook or its packages change.

Whoever has run a notebook with the widgets embedded may keep the run: ``make site``, and the test that runs every
notebook twice. So neither does the other's work again, and a build that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

import tokentm
import tokentm_widgets

SITE = Path(__file__).parent
NOTEBOOKS = SITE.parent
RUNS = NOTEBOOKS.parent / "build" / "site-runs"
VIEW = "application/vnd.jupyter.widget-view+json"
LIVE_ONLY = "*Here the notebook shows controls that need a running kernel; a still figure follows.*"
QUIET = ["--log-level=ERROR"]
"""Of a kernel: that it listens on this machine alone is no news."""


def client_of(notebook: NotebookNode) -> NotebookClient:
    """Runs a notebook where it lies."""
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    return NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources, extra_arguments=QUIET)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def ensure(path: Path, executed: Callable[[], object]) -> None:
    """Run a notebook and keep the run, unless that has been done; ``executed`` hears of every cell of code."""
    notebook = nbformat.read(path, as_version=4)
    if is_kept(path):
        for _ in code(notebook):
            executed()
        return
    client = client_of(notebook)
    with client.setup_kernel():
        embed_widgets(client, path)
        for i, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, i)
                executed()
    keep(notebook, path)


def embed_widgets(client: NotebookClient, path: Path) -> None:
    """From now on the kernel of a notebook writes its widgets to files, and shows these."""
    folder = RUNS / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "widgets").mkdir(parents=True)
    source = (
        f"import sys; sys.path.insert(0, {str(SITE)!r}); import embed; "
        f"embed.install({str(folder / 'widgets')!r}, {path.stem!r})"
    )
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.insert(0, cell)  # where a client puts the outputs of what it executes
    client.execute_cell(cell, 0, store_history=False)
    del client.nb.cells[0]


def keep(notebook: NotebookNode, path: Path) -> None:
    """Keep what a run with embedded widgets has made, ready to be a page."""
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(code(notebook), 1):
        cell.execution_count = number
        cell.outputs = [still(output) for output in cell.outputs]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    nbformat.write(notebook, RUNS / path.stem / path.name)
    (RUNS / path.stem / "key").write_text(key(path))  # as the last: without it a run is not whole


def still(output: NotebookNode) -> NotebookNode:
    """An output that needs no kernel: controls that do are replaced by a word on it."""
    if VIEW not in output.get("data", {}):
        return output
    return nbformat.v4.new_output("display_data", data={"text/markdown": LIVE_ONLY, "text/plain": LIVE_ONLY})


def is_kept(path: Path) -> bool:
    kept = RUNS / path.stem / "key"
    return kept.exists() and kept.read_text() == key(path)


def key(path: Path) -> str:
    """Changes with whatever a run depends on."""
    return hashlib.sha256(path.read_bytes() + packages()).hexdigest()


@cache
def packages() -> bytes:
    """A digest of what all notebooks run on."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("torch", "torchvision", "timm", "numpy", "matplotlib", "pillow"):
        digest.update(f"{name} {version(name)}".encode())
    for file in sources():
        digest.update(file.read_bytes())
    return digest.digest()


def sources() -> Iterator[Path]:
    yield from (SITE / "embed.py", SITE / "kept_runs.py")
    for package in (tokentm, tokentm_widgets):
        folder = Path(package.__file__).parent
        yield from sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
