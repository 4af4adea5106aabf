"""The course as a static site, with its widgets alive: every notebook is run, then turned into a page.

    make site                                    # writes build/site; open build/site/index.html
    python notebooks/site/build.py --out DIR     # somewhere else

The pages need neither a kernel nor a network nor a server. A build that is stopped goes on when it is started again; a
notebook that has not changed is not run again.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import api_pages
import kept_runs
import landing
import nbformat
from sphinx.cmd.build import build_main
from tqdm.auto import tqdm

from tokentm_widgets import SceneTable, export_html

SITE = kept_runs.SITE
ROOT = SITE.parents[1]
_MEASURED = ("faithfulness.md", "real_model.md")
PAGES = (
    SITE / "course.md",
    SITE / "own_model.md",
    SITE / "how_it_works.md",
    *(ROOT / "benchmarks" / name for name in _MEASURED),
)
"""The pages beside the notebooks."""
BUILT = "objects.inv"
"""By this file a site is known, so that nothing else is ever replaced by one."""


def ensure_runs(paths: list[Path]) -> None:
    """Every notebook is run, with one bar for all of their cells."""
    cells = sum(len(kept_runs.code(nbformat.read(path, as_version=4))) for path in paths)
    with tqdm(total=cells, unit="cell") as bar:
        for path in paths:
            bar.set_description(path.stem)
            kept_runs.ensure(path, bar.update)
        bar.set_description("all notebooks are run")


def flat(text: str) -> str:
    """Links from one page to another, on a site where all pages lie in one folder."""
    return re.sub(r"\]\((?:\.\.?/)*(?:\w+/)*(\w+\.(?:md|ipynb)[)#])", r"](\1", text)


def write_sources(paths: list[Path], source: Path) -> None:
    """What Sphinx reads: the notebooks as they were run, and the other pages."""
    source.mkdir(parents=True)
    for page in PAGES:
        (source / page.name).write_text(flat(page.read_text(encoding="utf-8")), encoding="utf-8")
    api_pages.write(source)
    for path in paths:
        notebook = nbformat.read(kept_runs.RUNS / path.stem / path.name, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = flat(cell.source)
        nbformat.write(notebook, source / path.name)


def write_pages(source: Path, out: Path) -> None:
    """Sphinx makes pages of them; a warning is an error."""
    options = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(SITE), "-d", str(source.with_name("doctrees"))]
    if failed := build_main([*options, str(source), str(out)]):
        raise SystemExit(failed)


def write_widgets(paths: list[Path], folder: Path) -> None:
    folder.mkdir()
    for path in paths:
        for widget in (kept_runs.RUNS / path.stem / "widgets").iterdir():
            shutil.copy(widget, folder)
    export_html(SceneTable(), folder / Path(landing.HERO).name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    out: Path = parser.parse_args().out.resolve()
    if out.exists() and not (out / BUILT).exists():
        parser.error(f"expected a new folder, or a site to replace; {out} is neither. Remove it, or name another.")
    paths = sorted(kept_runs.NOTEBOOKS.glob("*.ipynb"))
    ensure_runs(paths)
    work = out.with_name(f"{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    write_sources(paths, work / "source")
    write_pages(work / "source", work / "pages")
    write_widgets(paths, work / "pages" / "widgets")
    shutil.rmtree(out, ignore_errors=True)  # only now: until here the old one could be read
    (work / "pages").rename(out)
    shutil.rmtree(work)
    print(out / "index.html")


if __name__ == "__main__":
    main()
