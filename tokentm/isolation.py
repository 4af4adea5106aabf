"""Isolated work: nothing around the caller acts on it, and an interrupt leaves nothing behind.

Work runs with gradients on, and without inference mode and autocast, whatever the caller has switched on. Hooks and
function modes that it puts in place belong to it: they act in its thread only, and not on other isolated work that is
called from inside. Python raises a KeyboardInterrupt between any two instructions of the main thread, also between
putting a hook in place and taking it away; so while work runs there, an interrupt is only noted, the work ends at its
next :func:`checkpoint`, and the interrupt is raised when everything has been put back. A second one is raised at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_DEVICES = ("cpu", "cuda", "mps", "xpu")


class Stopped(BaseException):
    """Raised at a checkpoint of work that was interrupted."""


class Job:
    """One piece of isolated work."""

    def __init__(self) -> None:
        self.interrupted = False
        self.ends_on_interrupt = False


class _Here(threading.local):
    """The work that runs in this thread, innermost last, and who may end it from another thread."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.asked: Callable[[], bool] = lambda: False


_here = _Here()


def isolated(work: Callable[[], T]) -> T:
    """What ``work()`` returns or raises, run with default modes and safe from interrupts."""
    job = Job()
    with _interrupts_held(job), _default_modes():
        _here.jobs.append(job)
        try:
            return work()
        finally:
            _here.jobs.remove(job)


def current() -> Job | None:
    """The innermost work that runs in this thread."""
    return _here.jobs[-1] if _here.jobs else None


def checkpoint() -> None:
    """Called often by long work: ends it where an interrupt has come, or another thread has asked for it."""
    if _here.asked():
        raise Stopped
    for job in _here.jobs:
        if job.interrupted and job.ends_on_interrupt:
            raise Stopped


@contextmanager
def stoppable(asked: Callable[[], bool]) -> Iterator[None]:
    """While active, work in this thread ends at its next checkpoint with :class:`Stopped` once ``asked()`` is true.

    For threads beside the main one, which an interrupt does not reach.

    Example:
        >>> with stoppable(event.is_set):
        ...     trace = record(model, images)
    """
    before, _here.asked = _here.asked, asked
    try:
        yield
    finally:
        _here.asked = before


@contextmanager
def _default_modes() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def _interrupts_held(job: Job) -> Iterator[None]:
    """While active in the main thread, an interrupt is noted in the job; the program's handler hears of it at the end.

    Where that handler is Python's own, which raises KeyboardInterrupt, the work ends at its next checkpoint.
    """
    own = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(own) or len(_here.jobs) > 0:
        yield
        return

    def note(number: int, frame: Any) -> None:
        if job.interrupted:  # asked twice: something that cannot be stopped, such as a target function that hangs
            own(number, frame)
        job.interrupted = True

    job.ends_on_interrupt = own is signal.default_int_handler
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Stopped:
        pass
    finally:
        signal.signal(signal.SIGINT, own)
        if job.interrupted:
            own(signal.SIGINT, None)
