"""Explanation methods: each is called with a :class:`tokentm.Trace` and returns a :class:`tokentm.Explanation`."""

from __future__ import annotations

from collections.abc import Callable

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods.attention import raw_attention
from tokentm.methods.rollout import rollout
from tokentm.methods.tokentm import TokenTM
from tokentm.trace import Trace

Method = Callable[[Trace], Explanation]

__all__ = ["METHODS", "Method", "TokenTM", "get", "raw_attention", "rollout"]

METHODS: dict[str, Method] = {
    "tokentm": TokenTM(),
    "attention": raw_attention,
    "rollout": rollout,
}


def get(method: str | Method) -> Method:
    """A method by name, or the callable itself.

    Raises:
        InvalidOptionError: an unknown name, with the known ones.
    """
    if callable(method):
        return method
    if method not in METHODS:
        raise InvalidOptionError(f"expected a method among {', '.join(METHODS)}, or a callable; got {method!r}.")
    return METHODS[method]
