"""How far a widget's computation has come: a bar, a caller's own function, or nothing.

A reporter is a function of the share done, 0 .. 1, and of what is being done, in words. It is called between steps,
never while a model runs or has hooks on it; so it may raise, which ends the computation with that error.

    >>> def report(share: float, doing: str) -> None:
    ...     print(f"{share:.0%} {doing}")
    ...     if cancelled:
    ...         raise Cancelled
    >>> PathExplorer(trace, progress=report)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import HTML, display
from tqdm import tqdm

from tokentm.errors import InvalidOptionError

Reporter = Callable[[float, str], None]
"""Hears of the share done and of what is being done; ends the work by raising."""

Progress = bool | Reporter
"""What the widgets' ``progress=`` takes: True for a bar, False for nothing, or a reporter."""

DELAY = 1.0
"""Seconds before a bar appears: what is done by then needs none."""

_WIDTH = 1000  # a bar counts in thousandths


def reporter(progress: Progress, part: tuple[float, float] = (0.0, 1.0)) -> Reporter:
    """A reporter that passes on shares of one part of the work, as shares of the whole.

    Raises:
        InvalidOptionError: neither a truth value nor a function.

    Example:
        >>> first, second = reporter(progress, (0, 0.3)), reporter(progress, (0.3, 1))
    """
    _require_progress(progress)
    if isinstance(progress, bool):
        return _silent
    begin, end = part
    return lambda share, doing: progress(begin + (end - begin) * share, doing)


@contextmanager
def reporting(progress: Progress, doing: str) -> Iterator[Reporter]:
    """The reporter for one computation: the caller's own, or a bar that is gone when the computation ends.

    Args:
        progress: what the widget was given.
        doing: what is said beside the bar until the first report.

    Raises:
        InvalidOptionError: neither a truth value nor a function.

    Example:
        >>> with reporting(progress, "computing methods") as report:
        ...     for i, one in enumerate(methods):
        ...         report(i / len(methods), f"computing {one}")
    """
    _require_progress(progress)
    if not isinstance(progress, bool):
        progress(0.0, doing)
        yield progress
        progress(1.0, doing)
    elif not progress:
        yield _silent
    elif getattr(get_ipython(), "kernel", None) is not None:
        bar = _CellBar()
        try:
            yield bar
        finally:
            bar.clear()
    else:
        with tqdm(total=_WIDTH, desc=doing, leave=False, delay=DELAY, bar_format=_BAR) as shown:
            yield lambda share, text: _move(shown, share, text)


def reporting_each(items: Sequence[Any], report: Reporter, doing: str) -> Iterator[Any]:
    """The items one by one; before each, the share of them that is done is reported."""
    for i, item in enumerate(items):
        report(i / len(items), doing)
        yield item


class _CellBar:
    """A bar in a cell's output, which is empty in the end: a widget would be saved as one that cannot live."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown: Any = None

    def __call__(self, share: float, doing: str) -> None:
        spent = time.monotonic() - self._begun
        if spent < DELAY:
            return
        left = f", about {spent / share * (1 - share):.0f} s left" if share > 0.02 else ""
        bar = HTML(f'<progress value="{share:.3f}"></progress> {doing}: {share:.0%}{left}')
        if self._shown is None:
            self._shown = display(bar, display_id=True)
        else:
            self._shown.update(bar)

    def clear(self) -> None:
        if self._shown is not None:
            self._shown.update(HTML(""))


_BAR = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"


def _move(bar: Any, share: float, doing: str) -> None:
    if bar.desc != doing:
        bar.set_description_str(doing, refresh=False)
    bar.update(round(share * _WIDTH) - bar.n)


def _silent(_share: float, _doing: str) -> None:
    """Nobody wants to hear of it."""


def _require_progress(progress: Any) -> None:
    if not isinstance(progress, bool) and not callable(progress):
        raise InvalidOptionError(
            "expected progress=True for a bar, False for none, or a function of the share done and of what is being "
            f"done: lambda share, doing: print(share, doing); got {progress!r}."
        )
