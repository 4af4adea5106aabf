"""What the first cell of every notebook says of it: title, minutes, and what its reader can do afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Lesson:
    """A notebook of the course.

    Attributes:
        page: its name without an ending, as "00_quickstart".
        objectives: sentences in HTML.
    """

    page: str
    title: str
    minutes: int
    objectives: tuple[str, ...]

    @property
    def number(self) -> str:
        return self.page[:2]


def lesson(page: str, notebook: NotebookNode) -> Lesson:
    """The header of one notebook, whose form ``tests/test_notebooks.py`` holds."""
    text = notebook.cells[0].source
    title = re.search(r"\A# (.+)", text)
    minutes = re.search(r"\*\*After these (\d+) minutes you can\*\*", text)
    objectives = re.findall(r"^\d+\. (.+(?:\n {3}.+)*)", text, re.MULTILINE)
    if not (title and minutes and objectives):
        raise ValueError(f"expected a title, minutes and objectives in the first cell of {page}; found: {text}")
    return Lesson(page, title[1], int(minutes[1]), tuple(map(sentence, objectives)))


def sentence(objective: str) -> str:
    """A line of the list, "measure *this*;", as a sentence of its own."""
    text = " ".join(objective.split()).rstrip(".;")
    return MarkdownIt().renderInline(f"{text[0].upper()}{text[1:]}.")


def lessons() -> list[Lesson]:
    return [lesson(path.stem, nbformat.read(path, as_version=4)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
