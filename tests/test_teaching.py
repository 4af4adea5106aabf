"""Every exercise: its own notebook's solution is right, its stub has not started, and each likely mistake is named."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from lessons import NOTEBOOKS, Task, read, setting, tasks

from tokentm import InvalidOptionError
from tokentm.teaching import EXERCISES, Exercise, check, hint
from tokentm.teaching.core import difference, examine, state
from tokentm.teaching.fresh import small_vit

TASKS = {task.name: (path, task) for path in NOTEBOOKS for task in tasks(read(path))}

# exercise -> what a student may write instead, and words by which the verdict must name that mistake
WRONG: dict[str, list[tuple[str, str]]] = {
    name: cases
    for path in sorted(Path(__file__).with_name("mistakes").glob("lesson*.py"))
    for name, cases in import_module(f"mistakes.{path.stem}").WRONG.items()
}


def made(task: Task, source: str) -> object:
    """The answer that some source makes, where the stub stands in the notebook."""
    path, _ = TASKS[task.name]
    names = dict(setting(path, task.cell))
    exec(compile(source, "answer.py", "exec"), names)
    return eval(task.answer, names)


each_exercise = pytest.mark.parametrize("name", EXERCISES)


@each_exercise
def test_solution_of_the_notebook_is_right(name):
    _, task = TASKS[name]
    verdict = check(name, made(task, task.solution))
    assert verdict.right, verdict
    assert repr(verdict) == f"Right: {EXERCISES[name].right}"


@each_exercise
def test_stub_of_the_notebook_has_not_started(name):
    _, task = TASKS[name]
    for answer in (made(task, task.stub), None, ...):
        verdict = check(name, answer)
        assert not verdict.right
        assert repr(verdict) == f"Not started yet. Hint: {EXERCISES[name].hints[0]}"


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [(name, *case) for name, cases in WRONG.items() for case in cases],
    ids=[f"{name}-{words}" for name, cases in WRONG.items() for _, words in cases],
)
def test_mistake_is_named(name, source, words):
    _, task = TASKS[name]
    verdict = check(name, made(task, source))
    assert not verdict.right
    assert verdict.text.startswith("Not yet: ")
    assert words in verdict.text


def test_at_least_five_mistakes_are_known_of_every_exercise():
    assert WRONG.keys() == EXERCISES.keys()
    assert min(len(cases) for cases in WRONG.values()) >= 5


@each_exercise
def test_hints_lead_further_and_end(name):
    hints = EXERCISES[name].hints
    assert len(hints) >= 2
    for step, text in enumerate(hints, 1):
        said = repr(hint(name, step))
        assert said.startswith(f"Hint {step} of {len(hints)}: {text}")
        assert (f'hint("{name}", {step + 1})' in said) == (step < len(hints))
    assert hint(name) == hint(name, 1)
    with pytest.raises(InvalidOptionError, match=f"expected a step from 1 to {len(hints)}; got {len(hints) + 1}"):
        hint(name, len(hints) + 1)


@pytest.mark.parametrize("ask", [hint, lambda name: check(name, None)])
def test_unknown_exercise_is_refused_with_the_known_ones(ask):
    with pytest.raises(InvalidOptionError, match=r"among 00\.share, 01\.cell_of, .*; got '01\.cell'"):
        ask("01.cell")


def test_answers_may_be_tensors_arrays_numbers_or_lists():
    share = made(TASKS["00.share"][1], TASKS["00.share"][1].solution)
    for answer in (float(share), np.float32(share), np.array([share]), torch.tensor(share), torch.tensor([share])):
        assert check("00.share", answer).right

    def cell_of(token, columns, prefix):
        return divmod(token - prefix, columns)

    for form in (tuple, list, np.array, torch.tensor, lambda cell: [torch.tensor(part) for part in cell]):
        assert check("01.cell_of", lambda *given, form=form: form(cell_of(*given))).right


def raising(token, columns, prefix):
    row = [token]
    return row[7]


def test_exception_is_named_with_its_line_and_without_an_address():
    line = raising.__code__.co_firstlineno + 2
    text = f"Not yet: your function stopped with IndexError: list index out of range. In line {line}: `return row[7]`"
    assert check("01.cell_of", raising).text == text

    def with_address(token, columns, prefix):
        raise ValueError(f"cannot use {object()}")

    assert "stopped with ValueError: cannot use <object object>. In line" in check("01.cell_of", with_address).text
    assert "stopped with ZeroDivisionError: " in check("01.cell_of", lambda *given: 1 // 0).text
    assert check("01.cell_of", int).text.startswith("Not yet: your function stopped with TypeError: int() ")


def test_only_errors_of_the_student_are_caught():
    def broken(answer):
        raise ZeroDivisionError("in the checker")

    with pytest.raises(ZeroDivisionError, match="in the checker"):
        examine(Exercise((broken,), "", ("",)), len)

    def interrupted(*given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("01.cell_of", interrupted)


def test_a_function_without_return_has_started():
    def with_docstring(token, columns, prefix):
        """Only a docstring."""

    def with_dots(token, columns, prefix):
        return ...

    def without_return(token, columns, prefix):
        divmod(token - prefix, columns)

    assert check("01.cell_of", with_docstring).text.startswith("Not started yet")
    assert check("01.cell_of", with_dots).text.startswith("Not started yet")
    assert "Is its `return` missing?" in check("01.cell_of", without_return).text


def spoil_weights(model):
    with torch.no_grad():
        model.head.weight.add_(1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_weights, "the weights head.weight"),
        (lambda model: model.blocks[1].register_forward_hook(print), "a hook of blocks.1"),
        (lambda model: model.blocks[1].train(), "the train or eval mode of blocks.1"),
        (lambda model: setattr(model, "note", 1), "the attribute note of the model"),
        (lambda model: model.requires_grad_(False), "requires_grad of cls_token"),
        (lambda model: model(torch.ones(1, 3, 16, 24)).sum().backward(), "the gradient of cls_token"),
        (lambda model: delattr(model, "head"), "the parts of the model"),
    ],
)
def test_every_trace_left_on_a_model_is_named(spoil, words):
    model = small_vit(0)
    before = state((model, 3))
    assert difference(before, state((model, 3))) is None
    with torch.enable_grad():
        spoil(model)
    assert difference(before, state((model, 3))).startswith(f"your function changed {words}")


def test_a_check_leaves_random_numbers_and_gradients_alone():
    _, task = TASKS["01.tokens_after"]
    answer = made(task, task.solution)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check("01.tokens_after", answer)
    assert torch.equal(torch.rand(4), expected)
    assert torch.is_grad_enabled()


def test_a_verdict_is_frozen():
    verdict = check("01.cell_of", None)
    with pytest.raises(FrozenInstanceError):
        verdict.right = True
    assert copy.copy(verdict) == verdict
