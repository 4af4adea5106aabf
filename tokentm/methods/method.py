"""What a method is: an object that is called with a record, and says what kind of map it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.isolation import isolated
from tokentm.outputs import Meaning
from tokentm.run import Subject
from tokentm.target import Target
from tokentm.trace import Trace

Stream = Callable[[Subject, Target, "Meaning | None"], Explanation]


@runtime_checkable
class Method(Protocol):
    """An explanation method: ``method(trace)`` gives an :class:`tokentm.Explanation`.

    Attributes:
        name: its name everywhere: in tables, maps, files, on the screen.
        class_specific: the map depends on the explained class.
        signed: scores may be negative, where a patch speaks against the class.
        reruns_model: it runs the recorded model again, which it gets from ``trace.check_model()``.
        stream: explains without a record, in less memory; None where there is no such form.
    """

    @property
    def name(self) -> str: ...

    @property
    def class_specific(self) -> bool: ...

    @property
    def signed(self) -> bool: ...

    @property
    def reruns_model(self) -> bool: ...

    @property
    def stream(self) -> Stream | None: ...

    def __call__(self, trace: Trace) -> Explanation: ...


KNOWN: dict[str, Method] = {}
"""Methods by name, in the order in which their files are imported; see :mod:`tokentm.methods`."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A method made of one function of a record; see :func:`method`."""

    name: str
    maps: Callable[[Trace], Tensor]
    class_specific: bool
    signed: bool
    reruns_model: bool
    stream: None = None

    def __call__(self, trace: Trace) -> Explanation:
        return explained(trace, self.name, self.maps)

    def __repr__(self) -> str:
        return self.name


def method(
    name: str, *, class_specific: bool, signed: bool = False, reruns_model: bool = False
) -> Callable[[Callable[[Trace], Tensor]], Reading]:
    """Make a method of a function from a record to scores (B, P), or to maps after every layer (B, L, P), the last of
    which is the explanation. Its docstring names paper and departures.
    """

    def make(maps: Callable[[Trace], Tensor]) -> Reading:
        made = Reading(name, maps, class_specific, signed, reruns_model)
        vars(made)["__doc__"] = maps.__doc__
        KNOWN[name] = made
        return made

    return make


def explained(trace: Trace, name: str, maps: Callable[[Trace], Tensor]) -> Explanation:
    """What a method called ``name`` says of a record, from scores (B, P), or maps after every layer (B, L, P)."""
    require_trace(trace, name)
    found = isolated(lambda: maps(trace))
    if found.ndim == 2:
        return Explanation.of(trace, name, found)
    return Explanation.of(trace, name, found[:, -1], found)


def require_trace(trace: Any, name: str) -> None:
    """Refuse anything but a record.

    Raises:
        InvalidOptionError: with what to do.
    """
    if not isinstance(trace, Trace):
        raise InvalidOptionError(
            f"expected a record for the method {name!r}, from tokentm.record(model, images); got "
            f"{type(trace).__name__}. tokentm.explain(model, images, method={name!r}) records and explains."
        )
