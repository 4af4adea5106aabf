"""How long an evaluation will take on this machine, from its first batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokentm.evaluation.protocols import PROTOCOLS, Subject


@dataclass(frozen=True)
class Durations:
    """Seconds a picture takes, measured.

    Attributes:
        together: with all methods, which share a record and what else is made once.
        alone: with each method alone.
    """

    together: float
    alone: dict[str, float]


def measure(test: str, subject: Subject, samples: Sequence[Any]) -> Durations:
    """Do the first batch of a test, all methods together, then its first picture with each method alone.

    Args:
        test: a name from ``PROTOCOLS``.
        samples: of the batch; mosaics for the test of that name.
    """
    protocol = PROTOCOLS[test]

    def seconds(asked: Subject, of: Sequence[Any]) -> float:
        began = time.perf_counter()
        protocol(asked, of)
        return (time.perf_counter() - began) / len(of)

    first = next(iter(subject.methods.items()))
    seconds(replace(subject, methods=dict([first])), samples[:1])  # what is done once for a model
    together = seconds(subject, samples)
    return Durations(
        together,
        {
            name: seconds(replace(subject, methods={name: method}), samples[:1])
            for name, method in subject.methods.items()
        },
    )


def as_text(durations: Durations, count: int, device: str) -> str:
    """What was measured, and how long so many pictures will take, slowest methods first."""
    lines = [
        f"{durations.together:.3g} s a picture with all {len(durations.alone)} methods on {device}: {count:,} pictures "
        f"take {_hours(durations.together * count)}. Several processes share the work.",
        "",
        f"| method alone | seconds a picture | {count:,} pictures |",
        "| --- | --- | --- |",
    ]
    slowest = sorted(durations.alone.items(), key=lambda item: -item[1])
    lines += [f"| {name} | {seconds:.3g} | {_hours(seconds * count)} |" for name, seconds in slowest]
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{max(1, round(seconds / 60))} minutes"
