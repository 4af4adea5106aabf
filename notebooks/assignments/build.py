"""The graded assignments: from one source each to what students get, what solves it, and what grades it.

    python notebooks/assignments/build.py --course build/assignments

makes, or renews, an nbgrader course folder: ``source`` (all of it, with hidden tests and rubrics), ``release`` (for
students), ``solution`` (to hand out afterwards), ``grader`` and the settings. Submissions and grades in it are kept.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = sorted(HERE.glob("A[0-9]_*.py"))


def imported(source: str) -> Iterator[str]:
    """The packages that a program imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def check_packages() -> None:
    """Refuse to begin where a package is missing: nbgrader would give 0 points for that, and say nothing."""
    needed = {"nbgrader", "jupytext", "ipykernel"}
    for path in (*SOURCES, *HERE.glob("grader/*.py")):
        needed.update(imported(path.read_text(encoding="utf-8")))
    ours = {path.stem for path in HERE.glob("grader/*.py")}
    missing = sorted(name for name in needed - ours if find_spec(name) is None)
    if missing:
        raise SystemExit(
            f"expected the packages {', '.join(missing)}; not installed. make assignments installs them, "
            "or pip install tokentm[teaching]."
        )


def complete(metadata: dict[str, object]) -> dict[str, object]:
    """nbgrader's metadata of a cell, from the part that a source states."""
    stated = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False, **metadata}
    stated["locked"] = bool(stated["locked"] or (stated["grade"] and not stated["solution"]))
    return stated


def convert(source: Path, folder: Path) -> None:
    """One source, in jupytext's percent format, as a notebook without outputs."""
    import jupytext
    import nbformat

    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        stated = cell.metadata.get("nbgrader")
        cell.id = stated["grade_id"] if stated else f"cell-{number:02d}"
        cell.metadata = {"nbgrader": complete(stated)} if stated else {}
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{source.stem}.ipynb")


def nbgrader(course: Path, *arguments: str) -> None:
    """Run an nbgrader command in a course folder; a failure ends the build with what it said."""
    # nbgrader starts other programs of its own environment by their names
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nbgrader {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def build(course: Path) -> None:
    """Make or renew a course folder."""
    check_packages()
    course.mkdir(parents=True, exist_ok=True)
    shutil.copytree(
        HERE / "grader", course / "grader", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(HERE / "nbgrader_config.py", course)
    for source in SOURCES:
        convert(source, course / "source" / source.stem.split("_")[0])
    for command in ("generate_assignment", "generate_solution"):
        nbgrader(course, command, "*", "--force")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--course", type=Path, required=True, help="the course folder to make or to renew")
    course = parser.parse_args().course.expanduser()
    build(course)
    for part, meaning in (("release", "for students"), ("solution", "to hand out afterwards"), ("source", "to grade")):
        print(f"{course / part}: {', '.join(source.stem for source in SOURCES)}, {meaning}")


if __name__ == "__main__":
    main()
