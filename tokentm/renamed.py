"""Keywords of earlier releases: still taken, with a warning that names the new one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Called = TypeVar("Called", bound=Callable[..., Any])


def renamed(**names: str) -> Callable[[Called], Called]:
    """A decorator that also takes old keywords, given as ``old="new"``.

    The decorated function raises TypeError when it gets a value under both names.

    Example:
        >>> @renamed(picture="image")
        ... def show(image): ...
    """

    def decorate(function: Called) -> Called:
        order = list(inspect.signature(function).parameters)

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            for old, new in names.items():
                if old not in options:
                    continue
                if new in options or order.index(new) < len(args):
                    raise TypeError(f"expected {new}= or {old}=, its old name; got both. Give {new}= alone.")
                warnings.warn(f"{old}= is called {new}= now.", DeprecationWarning, stacklevel=2)
                options[new] = options.pop(old)
            return function(*args, **options)

        return call  # type: ignore[return-value]

    return decorate
