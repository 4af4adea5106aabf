"""The course as a static site, with its widgets alive: every notebook is run, then turned into a page.

    make site                                    # writes build/site; open build/site/index.html
    python notebooks/site/build.py --out DIR     # somewhere else

The pages need neither a kernel nor a network nor a server.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from sphinx.cmd.build import build_main
from tqdm.auto import tqdm

SITE = Path(__file__).parent
NOTEBOOKS = SITE.parent
VIEW = "application/vnd.jupyter.widget-view+json"
LIVE_ONLY = "*Here the notebook shows controls that need a running kernel; a still figure follows.*"


def run(path: Path, widgets: Path) -> NotebookNode:
    """A notebook, run anew with its widgets written to a folder, ready to be a page."""
    notebook = nbformat.read(path, as_version=4)
    install = (
        f"import sys; sys.path.insert(0, {str(SITE)!r}); import embed; embed.install({str(widgets)!r}, {path.stem!r})"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(install))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    del notebook.cells[0]
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [still(output) for output in cell.outputs]
    return notebook


def still(output: NotebookNode) -> NotebookNode:
    """An output that needs no kernel: controls that do are replaced by a word on it."""
    if VIEW not in output.get("data", {}):
        return output
    return nbformat.v4.new_output("display_data", data={"text/markdown": LIVE_ONLY, "text/plain": LIVE_ONLY})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=NOTEBOOKS.parent / "build" / "site")
    parser.add_argument("--notebooks", nargs="*", help="only these, by the beginning of their names: 00 05")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    source = out.with_name(out.name + "-source")
    for folder in (out, source):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SITE, source, ignore=shutil.ignore_patterns("build.py", "embed.py", "__pycache__"))
    widgets = source / "_static" / "widgets"
    widgets.mkdir(parents=True)
    chosen = tuple(arguments.notebooks or "0123456789")
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name.startswith(chosen)]
    for path in (bar := tqdm(paths)):
        bar.set_description(path.stem)
        nbformat.write(run(path, widgets), source / path.name)
    if failed := build_main(["-b", "html", "-q", "-W", "--keep-going", str(source), str(out)]):
        raise SystemExit(failed)
    shutil.rmtree(source)
    print(out / "index.html")


if __name__ == "__main__":
    main()
