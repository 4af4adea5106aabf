"""The assignments, built from a clean state and graded by nbgrader: what scores, what does not, what may not leak."""

from __future__ import annotations

import ast
import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jupytext
import nbformat
import numpy as np
import pytest
import torch
from mistakes.subtle import SUBTLE
from nbformat import NotebookNode
from nbgrader.api import Gradebook

import tokentm
from tokentm.teaching import GRADED, assignment2, check
from tokentm.teaching.watch import Work, borrowed

HERE = Path(__file__).parents[1] / "notebooks" / "assignments"
SOURCES = {path.stem.split("_")[0]: path for path in sorted(HERE.glob("A[0-9]_*.py"))}
CALLS = re.compile(r'assert holds\("([\w./]+)", (\w+)\)')
CHECKS = re.compile(r'^check\("([\w.]+)", (\w+)\)$', re.MULTILINE)

pytestmark = pytest.mark.timeout(1800)  # the first test waits for all notebooks to be graded

# exercise -> what a student may write instead, and words by which the verdict must name that mistake
WRONG: dict[str, list[tuple[str, str]]] = {
    name: cases for number in (1, 2, 3) for name, cases in import_module(f"mistakes.assignment{number}").WRONG.items()
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load(HERE / "build.py")
grader = load(HERE / "grader" / "tokentm_grader.py")


@cache
def source(name: str) -> NotebookNode:
    return jupytext.read(SOURCES[name], fmt="py:percent")


def metadata(cell: NotebookNode) -> dict[str, Any]:
    return cell.metadata.get("nbgrader", {})


def regions(cell: NotebookNode) -> str:
    """What stands between the marks of a solution."""
    return "\n".join(re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source, re.DOTALL))


def answer_of(name: str) -> str:
    """The variable that an exercise checks."""
    (found,) = {
        answer for asked, answer in CHECKS.findall("\n".join(c.source for c in source(name[:2]).cells)) if asked == name
    }
    return found


@cache
def solutions(assignment: str) -> tuple[Any, ...]:
    """The functions of the solution, compiled, in their order."""
    return tuple(
        compile(cell.source, "solution.py", "exec")
        for cell in source(assignment).cells
        if metadata(cell).get("solution") and cell.source.startswith("def ")
    )


@cache
def facts() -> dict[str, Any]:
    """What the true findings of the audit are."""
    return {"BOX": assignment2._tag(), "RATES": {**assignment2._measured(), "other patch": 0.0}}


def made(name: str, written: str) -> object:
    """The answer to an exercise, if this is written below the solution."""
    names: dict[str, Any] = {"torch": torch, "np": np, "tokentm": tokentm, "__name__": "assignment"}
    if name in ("A2.box", "A2.evidence"):
        names |= facts()
    with torch.no_grad():
        for code in solutions(name[:2]):
            exec(code, names)
        exec(compile(written, "answer.py", "exec"), names)
    return names[answer_of(name)]


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [(name, *case) for name, cases in WRONG.items() for case in cases],
    ids=[f"{name}-{words}" for name, cases in WRONG.items() for _, words in cases],
)
def test_mistake_is_named(name, written, words):
    with torch.no_grad():
        verdict = check(name, made(name, written))
    assert not verdict.right
    assert verdict.text.startswith("Not yet: ")
    assert words in verdict.text


def test_at_least_five_mistakes_are_known_of_every_exercise():
    assert WRONG.keys() == GRADED.keys()
    assert min(len(cases) for cases in WRONG.values()) >= 5


@pytest.mark.parametrize("name", SUBTLE)
def test_hidden_test_sees_what_the_check_does_not(name):
    with torch.no_grad():
        answer = made(name, SUBTLE[name])
        assert check(name, answer).right
        assert not grader.holds(f"{name}/more", answer)


def test_every_hidden_test_is_seen_to_refuse():
    assert {f"{name}/more" for name in SUBTLE} == {name for name in grader.names() if name.endswith("/more")}


@pytest.mark.parametrize("name", GRADED)
def test_nothing_written_has_not_started(name):
    for answer in (None, ...):
        assert check(name, answer).text == f"Not started yet. Hint: {GRADED[name].hints[0]}"
        assert not grader.holds(name, answer)
    assert len(GRADED[name].hints) >= 2


def test_every_test_stands_in_a_graded_cell_and_every_exercise_has_its_check():
    found = {}
    for assignment in SOURCES:
        for cell in source(assignment).cells:
            for name, answer in CALLS.findall(cell.source):
                assert metadata(cell)["grade"]
                assert answer == answer_of(name.removesuffix("/more"))
                assert name not in found
                found[name] = assignment
    assert sorted(found) == sorted(grader.names())
    assert all(name.startswith(assignment) for name, assignment in found.items())


class Course(NamedTuple):
    """A course folder in which a solved and a blank version of every assignment were handed in and graded."""

    folder: Path

    def notebook(self, *parts: str) -> NotebookNode:
        (path,) = self.folder.joinpath(*parts).glob("*.ipynb")
        return nbformat.read(path, as_version=4)

    def page(self, student: str, assignment: str) -> str:
        """The words of a feedback page."""
        (path,) = (self.folder / "feedback" / student / assignment).glob("*.html")
        text = re.sub(r"<style.*?</style>|<script.*?</script>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        return html.unescape(re.sub(r"<[^>]*>", "", text))

    def grades(self, student: str, assignment: str) -> list[tuple[str, float | None, float]]:
        """(cell, points given, points) of every graded cell; points given is None where a reader must decide."""
        with Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}") as book:
            (notebook,) = book.find_submission(assignment, student).notebooks
            return [(grade.name, grade.auto_score, grade.max_score) for grade in notebook.grades]


def tamper(path: Path) -> None:
    """Half of the test cells deleted, the others emptied, and each worth a thousand points."""
    notebook = nbformat.read(path, as_version=4)
    tests = [cell for cell in notebook.cells if metadata(cell).get("grade") and cell.cell_type == "code"]
    for cell in tests[::2]:
        cell.source, cell.metadata.nbgrader["points"] = "pass", 1000
    notebook.cells = [cell for cell in notebook.cells if cell not in tests[1::2]]
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    folder = tmp_path_factory.mktemp("assignments") / "course"
    build.build(folder)
    for student, version in (("solved", "solution"), ("blank", "release")):
        shutil.copytree(folder / version, folder / "submitted" / student)
    shutil.copytree(folder / "release" / "A3", folder / "submitted" / "tampering" / "A3")
    tamper(*(folder / "submitted" / "tampering" / "A3").glob("*.ipynb"))
    build.nbgrader(folder, "autograde", "*")
    build.nbgrader(folder, "generate_feedback", "*")
    return Course(folder)


each_assignment = pytest.mark.parametrize("assignment", SOURCES)


@each_assignment
def test_solution_scores_full_marks(course, assignment):
    written = {
        metadata(c)["grade_id"]
        for c in source(assignment).cells
        if metadata(c).get("grade") and metadata(c).get("solution")
    }
    grades = course.grades("solved", assignment)
    assert written < {name for name, _, _ in grades}
    assert [(name, given) for name, given, _ in grades] == [
        (name, None if name in written else points) for name, _, points in grades
    ]


@each_assignment
def test_blank_version_scores_nothing(course, assignment):
    grades = course.grades("blank", assignment)
    assert grades
    assert {given for _, given, _ in grades} == {0}


def test_tampering_with_tests_does_not_pay(course):
    grades = course.grades("tampering", "A3")
    assert {given for _, given, _ in grades} == {0}
    assert sum(points for _, _, points in grades) == 100
    assert len(CALLS.findall(words(course.notebook("autograded", "tampering", "A3")))) == 2 * sum(
        name.startswith("A3") for name in GRADED
    )


@each_assignment
def test_points_are_those_that_the_text_promises(course, assignment):
    text = "\n".join(cell.source for cell in source(assignment).cells if cell.cell_type == "markdown")
    promised = re.search(r"\*\*(\d+) points:\*\* (\d+) by tests, (\d+) by a reader", text)
    grades = course.grades("solved", assignment)
    by_reader = sum(points for _, given, points in grades if given is None)
    whole = sum(points for _, _, points in grades)
    assert [int(number) for number in promised.groups()] == [whole, whole - by_reader, by_reader]
    assert whole == 100
    sections = re.findall(r"^## .*\((\d+) points\)", text, re.MULTILINE)
    assert sum(map(int, sections)) == 100
    for cell in source(assignment).cells:
        said = re.match(r"# (\d+) points: ", cell.source)
        assert (int(said[1]) if said else None) == (metadata(cell)["points"] if CALLS.search(cell.source) else None)


@each_assignment
def test_student_version_runs_to_its_end_before_anything_is_written(course, assignment):
    release, run = course.notebook("release", assignment), course.notebook("autograded", "blank", assignment)
    assert [cell.cell_type for cell in release.cells] == [cell.cell_type for cell in run.cells]
    checks = 0
    for cell in run.cells:
        outputs = cell.get("outputs", [])
        failed = [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
        if metadata(cell).get("grade") and cell.cell_type == "code":
            assert [o.ename for o in failed] == ["AssertionError"]
        else:
            assert failed == []
        if CHECKS.fullmatch(cell.source):
            checks += 1
            assert outputs[0].data["text/plain"].startswith("Not started yet. Hint: ")
    assert checks == sum(name.startswith(assignment) for name in GRADED)
    assert all(CALLS.search(cell.source) is None for cell in release.cells)


@each_assignment
def test_student_version_imports_little(course, assignment):
    for cell in course.notebook("release", assignment).cells:
        if cell.cell_type == "code":
            assert set(build.imported(cell.source)) <= {"tokentm", "torch", "numpy", "matplotlib"}


def telling(assignment: str) -> Iterator[str]:
    """Lines of solutions, model answers and rubrics that stand nowhere else."""
    cells = source(assignment).cells
    told = "\n".join(cell.source.replace(regions(cell), "") if regions(cell) else cell.source for cell in cells)
    for cell in cells:
        for line in regions(cell).splitlines():
            line = line.strip()
            if len(line) >= 25 and line not in told and not line.startswith("### "):
                yield line


def hidden() -> Iterator[str]:
    """Lines of the private grader."""
    for line in (HERE / "grader" / "tokentm_grader.py").read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if len(line) >= 30 and not line.startswith(("from ", "import ")):
            yield line


def words(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells) + nbformat.writes(notebook)


def test_lines_that_tell_are_found_where_they_may_stand(course):
    for assignment in SOURCES:
        text = words(course.notebook("source", assignment))
        assert len(list(telling(assignment))) > 20
        assert [line for line in telling(assignment) if line not in text] == []
    code = [line for line in telling("A1") if re.match(r"[\w.]+ = ", line)]
    assert [line for line in code if line not in course.page("solved", "A1")] == []
    assert len(code) > 20
    assert len(list(hidden())) > 100


@each_assignment
def test_no_release_holds_a_solution_or_a_hidden_test(course, assignment):
    for path in (course.folder / "release" / assignment).rglob("*"):
        text = words(nbformat.read(path, as_version=4))
        assert path.suffix == ".ipynb"
        assert [line for line in (*telling(assignment), *hidden()) if line in text] == []
        assert "tokentm_grader" not in text
        assert "HIDDEN" not in text
        assert "MARK SCHEME" not in text
        assert "SOLUTION" not in text


@each_assignment
def test_no_feedback_holds_a_solution_or_a_hidden_test(course, assignment):
    text = course.page("blank", assignment)
    assert "Not started yet" in text
    assert [line for line in (*telling(assignment), *hidden()) if line in text] == []
    # of the hidden tests one import and one assertion; a cell that fails shows its lines once more
    said = {line.strip() for line in text.splitlines() if re.search(r"holds\(|import holds|grader\b", line)}
    allowed = re.compile(r"(-+> )?\d* ?(from tokentm_grader import holds|assert holds\(\"[\w./]+\", \w+\))")
    assert said
    assert [line for line in said if not allowed.fullmatch(line)] == []


@each_assignment
def test_solution_to_hand_out_holds_neither_hidden_tests_nor_rubrics(course, assignment):
    text = words(course.notebook("solution", assignment))
    assert [line for line in hidden() if line in text] == []
    assert "tokentm_grader" not in text
    assert "MARK SCHEME" not in text
    assert any(line in text for line in telling(assignment))


def test_building_again_keeps_what_was_handed_in(course):
    before = course.grades("solved", "A1")
    build.build(course.folder)
    assert course.grades("solved", "A1") == before
    assert len(list((course.folder / "submitted").rglob("*.ipynb"))) == 2 * len(SOURCES) + 1


def test_missing_package_ends_the_build(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "find_spec", lambda name: None if name in ("jupytext", "torch") else name)
    with pytest.raises(SystemExit, match=r"expected the packages jupytext, torch; not installed\. make assignments"):
        build.build(tmp_path / "course")
    assert not (tmp_path / "course").exists()


def test_missing_package_ends_every_command_of_nbgrader(tmp_path):
    settings = (HERE / "nbgrader_config.py").read_text(encoding="utf-8")
    assert settings.count('"tokentm"') >= 1
    (tmp_path / "nbgrader_config.py").write_text(
        settings.replace('("tokentm",', '("no_such_package",'), encoding="utf-8"
    )
    with pytest.raises(SystemExit, match="expected the packages no_such_package beside nbgrader: pip install"):
        build.nbgrader(tmp_path, "autograde", "A1")


def test_kernel_of_another_python_is_refused(tmp_path):
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    described = '{"argv": ["/other/python"], "display_name": "Python 3", "language": "python"}'
    (kernel / "kernel.json").write_text(described, encoding="utf-8")
    shutil.copy(HERE / "nbgrader_config.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "__file__ = 'nbgrader_config.py'; exec(open(__file__).read())"],
        cwd=tmp_path,
        env={**os.environ, "JUPYTER_PATH": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode
    assert f"expected the kernel python3 to run {sys.executable}, found /other/python: " in done.stderr


def test_failure_of_nbgrader_ends_the_build(course):
    with pytest.raises(SystemExit, match=r"nbgrader generate_assignment A9 failed:\n(.|\n)*No notebooks were matched"):
        build.nbgrader(course.folder, "generate_assignment", "A9")


def test_a_hidden_test_never_raises_and_never_writes_to_stderr(capsys, monkeypatch):
    def noisy(curve):
        print("a warning", file=sys.stderr)
        warnings.warn("another", stacklevel=1)
        return (curve[:, 1:] + curve[:, :-1]).mean(1) / 2

    assert grader.holds("A3.area", noisy)
    assert capsys.readouterr().err == ""

    def raising(curve):
        raise ValueError("mine")

    assert not grader.holds("A3.area/more", raising)
    assert capsys.readouterr().out == ""

    def broken(answer):
        raise ZeroDivisionError("of the test")

    monkeypatch.setitem(grader._MORE, "A3.area", broken)
    assert not grader.holds("A3.area/more", noisy)
    assert capsys.readouterr().out == "The test itself failed (ZeroDivisionError). Please tell your instructor.\n"


def test_borrowed_names_what_was_called():
    ratio = torch.rand(2, 3)

    def own():
        return tokentm.transformation.weight(ratio, ratio)

    before = sys.getprofile()
    assert borrowed(("transformation",), own) == ["tokentm.transformation.weight", "tokentm.transformation.necc"]
    assert borrowed(("aggregation",), own) == []
    assert borrowed(("transformation",), lambda: ratio.softmax(-1)) == []
    with pytest.raises(ZeroDivisionError):
        borrowed(("transformation",), lambda: 1 / 0)
    assert sys.getprofile() is before


def test_work_is_measured():
    wide, tall = torch.rand(5, 40), torch.rand(40, 3)
    with Work() as work:
        wide @ tall
        wide.unsqueeze(0).expand(100, -1, -1)  # a view
    assert work.products == [(5, 40, 3)]
    assert work.largest == 200
    with Work() as work:
        torch.einsum("bn,bnm->bm", torch.rand(2, 7), torch.rand(2, 7, 7))
        torch.rand(2, 7, 7) @ torch.rand(2, 7, 7)
    assert work.products.count((7, 7, 7)) == 1


def test_sources_are_plain_programs_without_widgets():
    for path in SOURCES.values():
        text = path.read_text(encoding="utf-8")
        ast.parse(text)
        assert "tokentm_widgets" not in text
