"""Run work in a thread of its own: nothing around the caller acts on it, and an interrupt leaves nothing behind.

Gradient mode, inference mode, autocast and function modes belong to a thread, so work in a fresh one starts from
PyTorch's defaults, whatever the caller has switched on. Python raises a KeyboardInterrupt in the main thread only:
there it ends the waiting, not the work, which is asked to stop and removes its own hooks; then the caller goes on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

T = TypeVar("T")

_IDLE_SECONDS = 60.0
"""How long a thread waits for more work before it ends."""


class Stopped(BaseException):
    """Raised inside isolated work whose caller no longer waits for it."""


class _Job:
    def __init__(self, work: Callable[[], Any], parent: _Job | None) -> None:
        self.work, self.parent = work, parent
        self.context, self.place = copy_context(), _cuda_place()
        self.claim = threading.Lock()  # held by whoever decides whether the work begins
        self.begun = self.abandoned = self.done = False
        self.ended = threading.Lock()  # released when the work has ended
        self.ended.acquire()
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def stopping(self) -> bool:
        return self.abandoned or (self.parent is not None and self.parent.stopping)

    def run(self) -> None:
        with self.claim:
            self.begun = not self.abandoned
        if self.begun:
            try:
                _go_to(self.place)
                self.result = self.context.run(self.work)
            except BaseException as error:
                self.error = error
        self.done = True
        self.ended.release()

    def abandon(self) -> None:
        """Ask the work to stop, and wait until it has."""
        self.abandoned = True
        with self.claim:
            begun = self.begun
        while begun and not self.done:
            self.ended.acquire(timeout=0.01)


class _Worker:
    """A thread that does one job after the other."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        threading.Thread(target=self._work, name="tokentm", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:  # somebody has just taken this worker: a job is on its way
                    continue
                return
            _here.job = job
            job.run()
            _here.job = None
            del job  # an error, and the frames it refers to, must not live until the next job
            _idle.append(self)


_idle: list[_Worker] = []
_here = threading.local()
if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_idle.clear)


def isolated(work: Callable[[], T]) -> T:
    """What ``work()`` returns or raises, run in another thread with PyTorch's default modes.

    Work that is called from inside other work gets a thread of its own, too.
    """
    job = _Job(work, getattr(_here, "job", None))
    try:
        _take_worker().jobs.put(job)
        while not job.ended.acquire(timeout=0.05):
            pass  # not in one go: on some systems, and for some interrupts, a lock that is waited for hears of nothing
    except BaseException:
        job.abandon()
        raise
    try:
        if job.error is not None:
            raise job.error
        return job.result
    finally:
        job.error = None  # the error's frames refer to the job


def checkpoint() -> None:
    """Called often by long work: ends it where its caller no longer waits."""
    job = getattr(_here, "job", None)
    if job is not None and job.stopping:
        raise Stopped


def _take_worker() -> _Worker:
    try:
        return _idle.pop()
    except IndexError:
        return _Worker()


def _cuda_place() -> tuple[int, Any] | None:
    """The caller's CUDA device and stream, which belong to a thread as well."""
    if not torch.cuda.is_initialized():
        return None
    return torch.cuda.current_device(), torch.cuda.current_stream()


def _go_to(place: tuple[int, Any] | None) -> None:
    if place is not None:
        device, stream = place
        torch.cuda.set_device(device)
        torch.cuda.set_stream(stream)
