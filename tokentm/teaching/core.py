"""What an exercise is, and how an answer is examined. The mistakes themselves are named in the lessons' files.

An answer is made by a student: it may be missing, of the wrong kind, raise, or change what it was given. All of that
becomes a verdict with a text that helps; an error in a checker itself is not caught.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Property = Callable[[Any], str | None]
"""Takes the answer; returns None where the property holds, else the mistake in words."""


@dataclass(frozen=True, repr=False)
class Note:
    """A text that a notebook shows as it is."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class Verdict(Note):
    """What was found, and whether the answer is right."""

    right: bool


@dataclass(frozen=True)
class Exercise:
    """One exercise of the course.

    Attributes:
        properties: asked in this order; the first that does not hold names the mistake.
        right: what a right answer has shown.
        hints: from a nudge to nearly the solution; the first also greets whoever has not started.
        function: whether the answer is a function, else a value.
    """

    properties: tuple[Property, ...]
    right: str
    hints: tuple[str, ...]
    function: bool = True


class Misstep(Exception):  # noqa: N818  (no error of this package: it is always caught and becomes a verdict)
    """A mistake found while a student's answer was called or read, in words."""


class _NotStarted(Misstep):
    """There is nothing there yet."""


def examine(exercise: Exercise, answer: Any) -> Verdict:
    """The verdict on an answer: not started, right, or the first mistake by name."""
    try:
        if answer is None or answer is ...:
            raise _NotStarted
        if exercise.function:
            answer = guarded(answer)
        elif callable(answer):
            raise Misstep("expected a value, not a function: call it, and give what it returns.")
        with torch.random.fork_rng(devices=[]):  # the random numbers of a notebook do not depend on its checks
            for holds in exercise.properties:
                if mistake := holds(answer):
                    raise Misstep(mistake)
    except _NotStarted:
        return Verdict(f"Not started yet. Hint: {exercise.hints[0]}", False)
    except Misstep as misstep:
        return Verdict(f"Not yet: {misstep}", False)
    return Verdict(f"Right: {exercise.right}", True)


def _stub() -> None: ...


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A student's function, watched: it may raise, change what it was given, or return nothing.

    Raises:
        Misstep: at once, if it is no function; when called, if it does one of these.
    """
    if not callable(function):
        raise Misstep(f"expected the function itself, not what it returns; yours is {kind(function)}.")

    def call(*given: Any) -> Any:
        before = state(given)
        returned = attempt("your function", function, *given)
        if changed := difference(before, state(given)):
            raise Misstep(changed)
        if returned is None or returned is ...:
            code = getattr(function, "__code__", None)
            if code and len(code.co_code) <= len(_stub.__code__.co_code):  # an untouched body has no room for more
                raise _NotStarted
            raise Misstep("your function returned nothing. Is its `return` missing?")
        return returned

    return call


def attempt(what: str, function: Callable[..., Any], *given: Any) -> Any:
    """Call something of the student's; ``what`` names it.

    Raises:
        Misstep: it raised; the text names the exception and, where it came from the student's own lines, the line.
    """
    try:
        return function(*given)
    except Exception as error:  # whatever a student's code raises, the student must hear of it
        said = re.sub(r" at 0x[0-9a-f]+", "", (str(error).splitlines() or [""])[0])
        file = getattr(getattr(function, "__code__", None), "co_filename", None)
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f" In line {own[-1].lineno}" + (f": `{own[-1].line}`" if own[-1].line else ".") if own else ""
        raise Misstep(f"{what} stopped with {type(error).__name__}: {said.rstrip('.')}.{where}") from error


def tensor(answer: Any, shape: tuple[int, ...], meaning: str) -> Tensor:
    """An answer as a float64 tensor on the CPU: from a tensor, an array, a number, or a list of them.

    Args:
        shape: the shape it must have.
        meaning: what its axes are, in words.

    Raises:
        Misstep: not numbers, another shape, NaN or infinity.
    """
    try:
        if isinstance(answer, list | tuple) and any(isinstance(part, Tensor) for part in answer):
            answer = torch.stack([torch.as_tensor(part).detach().cpu() for part in answer])
        found = torch.as_tensor(answer).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise Misstep(f"expected numbers of shape {shape}, {meaning}; yours is {kind(answer)}.") from None
    if tuple(found.shape) != shape:
        raise Misstep(f"expected shape {shape}, {meaning}; yours has shape {tuple(found.shape)}.")
    if not torch.isfinite(found).all():
        raise Misstep("your result holds NaN or infinity. Look for a division by zero or the logarithm of one.")
    return found


def same(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal up to rounding, measured against the largest entry."""
    wanted = wanted.detach().cpu().double()
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max())


def state(given: Any, name: str = "") -> dict[str, Any]:
    """Everything of some inputs that a function must leave alone, by name; to be compared with :func:`difference`."""
    if isinstance(given, nn.Module):
        return dict(_module_state(given))
    if isinstance(given, list | tuple):
        called = f"{name}, part" if name else "input"
        return {key: kept for i, one in enumerate(given) for key, kept in state(one, f"{called} {i + 1}").items()}
    return {name: given.detach().clone() if isinstance(given, Tensor) else given}


def _module_state(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        where, held = path or "the model", vars(module)
        hooks = [(key, *kept) for key, kept in held.items() if key.endswith("hooks")]
        parts = [
            (name, id(part)) for key in ("_parameters", "_buffers", "_modules") for name, part in held[key].items()
        ]
        rest = {key: id(kept) for key, kept in held.items() if not isinstance(kept, dict) and key != "training"}
        yield f"a hook of {where}: remove its handle, also when the model raises (try ... finally)", hooks
        yield f"the train or eval mode of {where}: leave it as you found it", module.training
        yield f"the parts of {where}: work on copy.deepcopy(model)", parts
        yield from ((f"the attribute {key} of {where}", kept) for key, kept in rest.items())
    for name, parameter in model.named_parameters():
        yield f"the weights {name}: work on copy.deepcopy(model)", parameter.detach().clone()
        yield f"the gradient of {name}: run the model without gradients", parameter.grad
        yield f"requires_grad of {name}: leave it as you found it", parameter.requires_grad


def difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """What was changed between two states, in words, or None."""
    for name in {**before, **after}:
        if name not in before or name not in after or not _unchanged(before[name], after[name]):
            if name.startswith("input "):
                return f"your function changed {name} in place. Work on a copy: x.clone(), or x * 2 instead of x *= 2."
            return f"your function changed {name}."
    return None


def _unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return before.shape == after.shape and torch.equal(before, after)
    return before is after or (type(before) is type(after) and not isinstance(before, Tensor) and before == after)


def kind(answer: Any) -> str:
    """An answer's type, in words."""
    return f"of type {type(answer).__name__}"
