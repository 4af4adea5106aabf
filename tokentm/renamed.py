"""Keywords that have a new name: the old one still works, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take old keywords in place of new ones, ``renamed(image="images")``, with a DeprecationWarning.

    Raises:
        TypeError: when the function is called with both, the old and the new keyword.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **given: P.kwargs) -> R:
            for old, new in names.items():
                if old not in given:
                    continue
                if new in given:
                    raise TypeError(f"expected {new}= or {old}=, its old name; got both. Give {new}= alone.")
                warnings.warn(f"{old}= is called {new}= now.", DeprecationWarning, stacklevel=2)
                given[new] = given.pop(old)
            return function(*args, **given)

        return wrapper

    return decorate
