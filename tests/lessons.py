"""Reading the notebooks of the course: their exercises, and the code that precedes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
DETAILS = re.compile(r"<details><summary>Solution</summary>\n(.*?)</details>", re.DOTALL)
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Task:
    """One exercise as it stands in a notebook.

    Attributes:
        name: as ``check`` knows it.
        cell: index of the cell with the stub; the checking cell is the next.
        stub, solution: their source.
        answer: the expression that is checked, such as the name of the function.
    """

    name: str
    cell: int
    stub: str
    answer: str
    solution: str


def checked(source: str) -> tuple[str, str] | None:
    """Name and answer of a cell that is nothing but ``check(name, answer)``."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    if len(body) != 1 or not (isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Call)):
        return None
    call = body[0].value
    if not (isinstance(call.func, ast.Name) and call.func.id == "check" and len(call.args) == 2):
        return None
    return ast.literal_eval(call.args[0]), ast.unparse(call.args[1])


def tasks(notebook: NotebookNode) -> Iterator[Task]:
    """Every checked exercise; parts that are missing are empty."""
    for i, cell in enumerate(notebook.cells):
        found = checked(cell.source) if cell.cell_type == "code" else None
        if found:
            stub = notebook.cells[i - 1]
            after = notebook.cells[i + 1].source if i + 1 < len(notebook.cells) else ""
            details = DETAILS.match(after)
            solution = FENCED.search(details[1]) if details else None
            yield Task(
                name=found[0],
                cell=i - 1,
                stub=stub.source if stub.cell_type == "code" else "",
                answer=found[1],
                solution=solution[1] if solution else "",
            )


@cache
def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def setting(path: Path, cell: int) -> dict[str, Any]:
    """What the code cells before one of them have defined, run as a plain program, each of them once."""
    names, _ = _run(path, cell)
    return names


@cache
def _run(path: Path, cell: int) -> tuple[dict[str, Any], bool]:
    """The names, and whether gradients were left on: a notebook may switch them off for all of its cells."""
    earlier = max((task.cell for task in tasks(read(path)) if task.cell < cell), default=0)
    names, on = _run(path, earlier) if earlier else ({"__name__": path.stem}, True)
    names = dict(names)
    with torch.set_grad_enabled(on):
        for before in read(path).cells[earlier:cell]:
            if before.cell_type == "code" and not checked(before.source):
                exec(compile(before.source, path.name, "exec"), names)
        return names, torch.is_grad_enabled()
