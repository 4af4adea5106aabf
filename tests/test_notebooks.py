"""The shape of a lesson: each lint is a function notebook -> complaints, and each is seen to complain."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import pairwise

import nbformat
import pytest
from kept_runs import client_of, embed_widgets, keep
from lessons import DETAILS, NOTEBOOKS, read, tasks
from nbclient import NotebookClient
from nbformat import NotebookNode

from tokentm.teaching import EXERCISES

Lint = Callable[[NotebookNode], Iterator[str]]

COLOUR_MAPS = {"viridis", "cividis", "Greys", "PuOr"}
PREDICT = "> **Predict.**"
VIEW = "application/vnd.jupyter.widget-view+json"


def prose(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def imported(source: str) -> list[str]:
    """Names that a cell imports, wherever in it."""
    tree = ast.parse(re.sub(r"^[!%].*", "", source, flags=re.MULTILINE))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def minutes(notebook: NotebookNode) -> int:
    found = re.search(r"\*\*After these (\d+) minutes you can\*\*", notebook.cells[0].source)
    return int(found[1]) if found else 0


def header(notebook: NotebookNode) -> Iterator[str]:
    first = notebook.cells[0].source
    if not first.startswith("# "):
        yield "the first cell has no title"
    if not minutes(notebook):
        yield "the header does not say 'After these N minutes you can'"
    objectives = len(re.findall(r"^\d+\. ", first, re.MULTILINE))
    if not 1 <= objectives <= 3:
        yield f"the header has {objectives} objectives"
    if "**You need**" not in first:
        yield "the header has no prerequisites"


def setup(notebook: NotebookNode) -> Iterator[str]:
    first, *others = code(notebook)
    if notebook.cells.index(first) != 1:
        yield "the second cell is not the setup cell"
    if "torch.cuda.is_available()" not in first.source:
        yield "the setup cell does not choose a device"
    for cell in (first, *others):
        if re.search(r"==\d|\bpip\b|\bconda\b|^[!%]", cell.source, re.MULTILINE):
            yield f"a pin, an installation or a magic: {cell.source}"
    for cell in others:
        if imported(cell.source):
            yield f"an import outside the setup cell: {cell.source}"
    rest = "\n".join((*prose(notebook), *(cell.source for cell in others), re.sub(r".*\bimport\b.*", "", first.source)))
    for name in imported(first.source):
        if not re.search(rf"\b{name}\b", rest):
            yield f"{name} is imported and never needed"


def predictions(notebook: NotebookNode) -> Iterator[str]:
    count = "\n".join(prose(notebook)).count(PREDICT)
    if count < 2:
        yield f"{count} predictions, wanted 2 or more"
    for cell, after in pairwise(notebook.cells):
        if PREDICT in cell.source:
            last = cell.source.split("\n\n")[-1]
            if not last.startswith(PREDICT) or after.cell_type != "code":
                yield f"a prediction is not followed by the cell that answers it: {last}"


def exercises(notebook: NotebookNode) -> Iterator[str]:
    found = list(tasks(notebook))
    wanted = max(1, minutes(notebook) // 20)
    if len(found) < wanted:
        yield f"{len(found)} exercises in {minutes(notebook)} minutes, wanted {wanted}"
    if len(found) != len(re.findall(r"^### Exercise", "\n".join(prose(notebook)), re.MULTILINE)):
        yield "not one check for every '### Exercise'"
    for number, task in enumerate(found, 1):
        statement, checking = notebook.cells[task.cell - 1].source, notebook.cells[task.cell + 1]
        said = "".join(output.get("data", {}).get("text/plain", "") for output in checking.outputs)
        if task.name not in EXERCISES:
            yield f"{task.name} is not registered"
        if not re.search(rf"^### Exercise {number} \(\*{{1,4}}\)$", statement, re.MULTILINE):
            yield f"{task.name} has no heading '### Exercise {number} (*)' with its difficulty"
        if not task.stub:
            yield f"{task.name} has no stub"
        if f'hint("{task.name}")' not in statement:
            yield f"{task.name} does not mention its hint"
        if not said.startswith("Not started yet. Hint: "):
            yield f"{task.name} does not begin as 'Not started yet'"
        if not task.solution:
            yield f"{task.name} has no solution to fold out"


def leaks(notebook: NotebookNode) -> Iterator[str]:
    """The line that says most stands in the details block alone, and only the stub makes the answer."""
    open_text = [DETAILS.sub("", text) for text in prose(notebook)] + [cell.source for cell in code(notebook)]
    for task in tasks(notebook):
        own = [line.strip() for line in task.solution.splitlines() if line not in task.stub.splitlines()]
        telling = max(own, key=len, default="")
        if telling and any(telling in text for text in open_text):
            yield f"the solution of {task.name} can be read outside its details block: {telling}"
        made = re.compile(rf"^(def {task.answer}\(|{task.answer} = )", re.MULTILINE)
        if sum(len(made.findall(cell.source)) for cell in code(notebook)) != 1:
            yield f"{task.answer} is made elsewhere than in the stub of {task.name}"


def proofs(notebook: NotebookNode) -> Iterator[str]:
    if not any(re.search(r"\bassert\b|assert_close", cell.source) for cell in code(notebook)):
        yield "nothing is asserted"
    if "$$" not in "".join(prose(notebook)):
        yield "no equation"


def ending(notebook: NotebookNode) -> Iterator[str]:
    text = "\n".join(prose(notebook))
    places = [text.find(part) for part in ("\n## Common mistakes\n", "\n## Summary\n", "**Further reading.**")]
    if not 0 <= places[0] < places[1] < places[2]:
        yield "it does not end with common mistakes, a summary and further reading"


def size(notebook: NotebookNode) -> Iterator[str]:
    words, bytes_ = len(" ".join(prose(notebook)).split()), len(nbformat.writes(notebook))
    if len(notebook.cells) > 75:
        yield f"{len(notebook.cells)} cells, wanted 75 or less"
    if words > 3000:
        yield f"{words} words, wanted 3000 or less"
    if bytes_ > 600_000:
        yield f"{bytes_ // 1000} kB, wanted 600 or less"


def alternatives(notebook: NotebookNode) -> Iterator[str]:
    bundles = [output.get("data", {}) for cell in code(notebook) for output in cell.outputs]
    for data in bundles:
        if any(kind.startswith("image/") for kind in data) and "<img " not in data.get("text/html", ""):
            yield "a picture without its HTML form, which alone carries an alternative text"
    for text in (*prose(notebook), *(data.get("text/html", "") for data in bundles)):
        if "![](" in text or any(not re.search(r'\balt="[^"]', tag) for tag in re.findall(r"<img\b[^>]*>", text)):
            yield f"a picture without an alternative text: {text[:60]}"


def stills(notebook: NotebookNode) -> Iterator[str]:
    shown = [[output.get("data", {}) for output in cell.outputs] for cell in code(notebook)]
    for cell, here, after in zip(code(notebook), shown, [*shown[1:], []], strict=True):
        if any(VIEW in data for data in here) and not any("<img " in d.get("text/html", "") for d in (*here, *after)):
            yield f"a widget without a static figure beside it: {cell.source}"


def colour_maps(notebook: NotebookNode) -> Iterator[str]:
    for cell in code(notebook):
        named = re.findall(r"""(?:cmap\s*=\s*|set_cmap\(|colormaps\[|get_cmap\()["'](\w+)""", cell.source)
        named += re.findall(r"\b(?:cm|colormaps)\.(\w+)", cell.source) + re.findall(r"\bjet\b|\brainbow\b", cell.source)
        for name in set(named) - COLOUR_MAPS:
            yield f"colour map {name}; choose among {', '.join(sorted(COLOUR_MAPS))}"


def executed(notebook: NotebookNode) -> Iterator[str]:
    cells = code(notebook)
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        yield "not executed from the first cell to the last, once"
    for output in (output for cell in cells for output in cell.outputs):
        if output.output_type == "error":
            yield f"an error: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"a warning: {output.text}"
    if "widgets" in notebook.metadata:
        yield "saved widget state: del notebook.metadata['widgets']"
    if notebook.metadata.kernelspec.name != "python3":
        yield f"kernel {notebook.metadata.kernelspec.name}, wanted python3"


LINTS: tuple[Lint, ...] = (
    header,
    setup,
    predictions,
    exercises,
    leaks,
    proofs,
    ending,
    size,
    alternatives,
    stills,
    colour_maps,
    executed,
)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_the_shape_of_a_lesson(path):
    assert [complaint for lint in LINTS for complaint in lint(read(path))] == []


def test_every_exercise_stands_in_the_notebook_of_its_number():
    found = {task.name: path.stem for path in NOTEBOOKS for task in tasks(read(path))}
    assert found.keys() == EXERCISES.keys()
    assert all(stem.startswith(name.split(".")[0] + "_") for name, stem in found.items())


def replace(pattern: str, by: str, cell_type: str = "markdown", count: int = 0) -> Callable[[NotebookNode], None]:
    """A way to spoil a notebook: another text in its cells."""

    def spoil(notebook: NotebookNode) -> None:
        before = deepcopy(notebook)
        for cell in notebook.cells:
            if cell.cell_type == cell_type:
                cell.source = re.sub(pattern, by, cell.source, count=count, flags=re.MULTILINE)
        assert before != notebook, f"{pattern} is not in the notebook"

    return spoil


def append(source: str) -> Callable[[NotebookNode], None]:
    """More code in the second code cell."""

    def spoil(notebook: NotebookNode) -> None:
        code(notebook)[1].source += f"\n{source}\n"

    return spoil


def output(**fields: object) -> Callable[[NotebookNode], None]:
    """One more output of the second code cell."""

    def spoil(notebook: NotebookNode) -> None:
        code(notebook)[1].outputs.append(nbformat.from_dict(fields))

    return spoil


def bundle(**data: str) -> Callable[[NotebookNode], None]:
    named = {kind.replace("__", "/"): value for kind, value in data.items()}
    return output(output_type="display_data", metadata={}, data=named)


def many_cells(notebook: NotebookNode) -> None:
    notebook.cells[3:3] = [nbformat.v4.new_markdown_cell("More.") for _ in range(76)]


def many_words(notebook: NotebookNode) -> None:
    notebook.cells[2].source += " word" * 3000


def late_setup(notebook: NotebookNode) -> None:
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell("First of all."))


def without_stub(notebook: NotebookNode) -> None:
    cell = next(tasks(notebook)).cell
    notebook.cells[cell] = nbformat.v4.new_markdown_cell("Write a function.")


def without_check(notebook: NotebookNode) -> None:
    del notebook.cells[next(tasks(notebook)).cell + 1]


def solved(notebook: NotebookNode) -> None:
    notebook.cells[next(tasks(notebook)).cell + 1].outputs[0].data["text/plain"] = "Right: you did it."


def told_in_prose(notebook: NotebookNode) -> None:
    notebook.cells[2].source += "\n" + next(tasks(notebook)).solution


def without_alt(notebook: NotebookNode) -> None:
    for cell in code(notebook):
        for shown in cell.outputs:
            if "text/html" in shown.get("data", {}):
                shown.data["text/html"] = re.sub('alt="[^"]*"', 'alt=""', shown.data["text/html"])


def without_html(notebook: NotebookNode) -> None:
    for cell in code(notebook):
        for shown in cell.outputs:
            if "image/png" in shown.get("data", {}):
                del shown.data["text/html"]


def without_stills(notebook: NotebookNode) -> None:
    for cell in code(notebook):
        for shown in cell.outputs:
            if VIEW in shown.get("data", {}) or "tokentm-still" in shown.get("data", {}).get("text/html", ""):
                shown.data.pop("text/html", None)
    after = next(i for i, cell in enumerate(code(notebook)) if any(VIEW in o.get("data", {}) for o in cell.outputs)) + 1
    code(notebook)[after].outputs = []


def run_again(notebook: NotebookNode) -> None:
    code(notebook)[2].execution_count = 99


def with_state(notebook: NotebookNode) -> None:
    notebook.metadata.widgets = {}


def other_kernel(notebook: NotebookNode) -> None:
    notebook.metadata.kernelspec.name = "my-kernel"


SPOILT: tuple[tuple[Lint, Callable[[NotebookNode], None], str], ...] = (
    (header, replace(r"\A# Tokens", "Tokens"), "no title"),
    (header, replace("After these 35 minutes", "After this"), "After these N minutes"),
    (header, replace(r"^3\. record", "3. look\n4. record"), "4 objectives"),
    (header, replace(r"\*\*You need\*\*", "Bring"), "no prerequisites"),
    (setup, late_setup, "not the setup cell"),
    (setup, replace("torch.cuda.is_available", "bool", "code"), "does not choose a device"),
    (setup, append("# needs torch==2"), "a pin"),
    (setup, append("%matplotlib inline"), "a magic"),
    (setup, append("!ls"), "a magic"),
    (setup, append("import math"), "import outside the setup cell"),
    (setup, replace(r"^import torch$", "import math\nimport torch", "code"), "math is imported and never needed"),
    (predictions, replace(r"\*\*Predict\.\*\*", "Guess."), "0 predictions"),
    (predictions, replace(r"^> \*\*Predict\.\*\*", "> **Predict.** What?\n\nMore before the code."), "not followed"),
    (exercises, without_check, "not one check for every"),
    (exercises, replace("After these 35 minutes", "After these 60 minutes"), "wanted 3"),
    (exercises, replace(r"check\(\"01\.cell_of\"", 'check("01.unheard_of"', "code"), "01.unheard_of is not registered"),
    (exercises, replace(r"^### Exercise 1 \(\*\)", "### Exercise 1"), "no heading"),
    (exercises, without_stub, "has no stub"),
    (exercises, replace(r"hint\(\"01\.cell_of\"\)", "a hint"), "does not mention its hint"),
    (exercises, solved, "does not begin as 'Not started yet'"),
    (exercises, replace("<summary>Solution", "<summary>Answer"), "no solution"),
    (leaks, told_in_prose, "outside its details block"),
    (leaks, append("def cell_of(token, columns, prefix):\n    return 0, 0"), "elsewhere than in the stub"),
    (proofs, replace(r"assert", "print", "code"), "nothing is asserted"),
    (proofs, replace(r"\$\$", ""), "no equation"),
    (ending, replace("## Common mistakes", "## Mistakes"), "does not end"),
    (ending, replace("## Summary", "## In short"), "does not end"),
    (ending, replace(r"\*\*Further reading\.\*\*", "See"), "does not end"),
    (size, many_cells, "cells, wanted 75"),
    (size, many_words, "words, wanted 3000"),
    (size, bundle(text__plain="x" * 600_000), "kB, wanted 600"),
    (alternatives, without_alt, "without an alternative text"),
    (alternatives, without_html, "without its HTML form"),
    (alternatives, replace(r"\A## 1", "![](images/picture.png)\n## 1"), "without an alternative text"),
    (alternatives, replace(r"\A## 1", '<img src="picture.png">\n## 1'), "without an alternative text"),
    (stills, without_stills, "without a static figure"),
    (colour_maps, append('axis.imshow(values, cmap="turbo")'), "colour map turbo"),
    (colour_maps, append("colours = plt.cm.jet"), "colour map jet"),
    (executed, run_again, "not executed"),
    (executed, output(output_type="error", ename="E", evalue="it broke", traceback=[]), "an error: it broke"),
    (executed, output(output_type="stream", name="stderr", text="beware"), "a warning: beware"),
    (executed, with_state, "saved widget state"),
    (executed, other_kernel, "kernel my-kernel"),
)


@pytest.mark.parametrize(("lint", "spoil", "words"), SPOILT, ids=lambda value: getattr(value, "__name__", str(value)))
def test_lint_complains_of_a_spoilt_notebook(lint, spoil, words):
    lesson = deepcopy(read(next(path for path in NOTEBOOKS if path.stem.startswith("01_"))))
    spoil(lesson)
    assert any(words in found for found in lint(lesson))


def test_every_lint_is_seen_to_complain():
    assert {lint for lint, _, _ in SPOILT} == set(LINTS)


def printed(cell: NotebookNode) -> str:
    """All the text a cell gives: streams, and the plain form of what it shows.

    Without the still picture beside a widget, which a page of the site does not need, and without a bar of progress
    that has gone, which only slow runs show.
    """

    def lasts(html: str | None) -> bool:
        return html is None or (html != "" and "tokentm-still" not in html)

    shown = [output for output in cell.outputs if lasts(output.get("data", {}).get("text/html"))]
    return "".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in shown)


def run_twice(notebook: NotebookNode, second: Callable[[NotebookClient], object]) -> list[list[str]]:
    """What every code cell prints in a first and in a second run in the same kernel; a warning fails.

    The notebook keeps the outputs of the second run; ``second`` is called before it.
    """
    client = client_of(notebook)
    runs = []
    with client.setup_kernel():
        for between in (lambda _: None, second):
            between(client)
            for i, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    client.execute_cell(cell, i)
            warned = [
                output.text for cell in code(notebook) for output in cell.outputs if output.get("name") == "stderr"
            ]
            assert warned == []
            runs.append([printed(cell) for cell in code(notebook)])
    return runs


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_second_run_in_the_same_kernel_prints_the_same(path):
    """The second run shows the widgets as the course's site does, which takes it instead of a run of its own."""
    notebook = deepcopy(read(path))
    first, second = run_twice(notebook, lambda client: embed_widgets(client, path))
    assert first == second
    assert any(first)
    keep(notebook, path)


@pytest.mark.notebook
def test_second_run_sees_state_that_leaks_and_warnings():
    cells = ['import sys\nnames = globals().setdefault("names", [])', "names.append(1)\nprint(len(names))\nnames"]
    leaking = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    assert run_twice(leaking, lambda _: None) == [["", "1\n[1]"], ["", "2\n[1, 1]"]]
    leaking.cells[1].source = 'print("beware", file=sys.stderr)'
    with pytest.raises(AssertionError, match="beware"):
        run_twice(leaking, lambda _: None)
