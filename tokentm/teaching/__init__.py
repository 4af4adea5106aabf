"""The teaching room: exercises of the course that answer back.

``check(name, answer)`` says whether an answer is right, and names the mistake where it is not; ``hint(name, step)``
helps a step further. Each lesson's exercises have a file; they test properties on fresh inputs, never stored answers.
"""

from __future__ import annotations

from typing import Any

from tokentm.errors import InvalidOptionError
from tokentm.teaching import (
    assignment1,
    assignment2,
    assignment3,
    lesson00,
    lesson01,
    lesson02,
    lesson03,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
    lesson08,
)
from tokentm.teaching.core import Exercise, Note, Verdict, examine

__all__ = ["EXERCISES", "GRADED", "Exercise", "Note", "Verdict", "check", "hint"]

EXERCISES: dict[str, Exercise] = {
    "00.share": lesson00.SHARE,
    "01.cell_of": lesson01.CELL_OF,
    "01.tokens_after": lesson01.TOKENS_AFTER,
    "02.parts": lesson02.PARTS,
    "02.twin": lesson02.TWIN,
    "03.compare": lesson03.COMPARE,
    "03.weight": lesson03.WEIGHT,
    "03.bounds": lesson03.BOUNDS,
    "04.rollout": lesson04.ROLLOUT,
    "04.aggregate": lesson04.AGGREGATE,
    "04.paths": lesson04.PATHS,
    "05.my_tokentm": lesson05.MY_TOKENTM,
    "05.signed": lesson05.SIGNED,
    "06.area": lesson06.AREA,
    "06.shuffled": lesson06.SHUFFLED,
    "06.interval": lesson06.INTERVAL,
    "07.effect": lesson07.EFFECT,
    "07.needed": lesson07.NEEDED,
    "07.misled": lesson07.MISLED,
    "08.score_at": lesson08.SCORE_AT,
    "08.doubts": lesson08.DOUBTS,
}

GRADED: dict[str, Exercise] = assignment1.EXERCISES | assignment2.EXERCISES | assignment3.EXERCISES
"""The exercises of the assignments; further tests of the same answers lie with those who grade."""


def check(name: str, answer: Any) -> Verdict:
    """Is this answer right? A notebook shows the verdict's text; ``check(name, answer).right`` is a bool.

    Args:
        name: lesson and exercise, such as "01.cell_of"; or assignment and exercise, such as "A1.weight".
        answer: the function or the value that the exercise asks for; numbers as a tensor, an array or a list.

    Raises:
        InvalidOptionError: an unknown name, with the known ones.

    Example:
        >>> check("01.cell_of", None)
        Not started yet. Hint: what is the number of this patch, if the first patch is number 0?
        >>> check("01.cell_of", lambda token, columns, prefix: divmod(token - prefix, columns)).right
        True
    """
    return examine(_known(name), answer)


def hint(name: str, step: int = 1) -> Note:
    """Help with an exercise, more with each step.

    Raises:
        InvalidOptionError: an unknown name or a step that does not exist, with those that do.
    """
    hints = _known(name).hints
    if not 1 <= step <= len(hints):
        raise InvalidOptionError(f"expected a step from 1 to {len(hints)}; got {step}.")
    more = f'\nFor more: hint("{name}", {step + 1})' if step < len(hints) else ""
    return Note(f"Hint {step} of {len(hints)}: {hints[step - 1]}{more}")


def _known(name: str) -> Exercise:
    known = EXERCISES | GRADED
    if name not in known:
        raise InvalidOptionError(f"expected an exercise among {', '.join(known)}; got {name!r}.")
    return known[name]
