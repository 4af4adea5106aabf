"""Work that a choice in the browser begins: in a thread of its own, so that the kernel hears when it is to stop.

A kernel hears a browser only between two pieces of work. So what a reader asks for is computed in a thread, while the
kernel's own loop goes on listening; what comes of it is put in place by that loop, one thing after the other, so that
traits and connections are touched by one thread only. What Python asks for is computed at once, in the caller's thread:
the line after it sees the answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from tokentm.errors import TokenTMError
from tokentm.isolation import Stopped, stoppable

Told = Callable[[str, float], None]
"""Hears what is being done, in words, and the share done, 0 .. 1."""

_NOTICED = 0.01  # smaller steps of progress are not worth a message


class Work:
    """One piece of work, as the function that does it sees it.

    Args:
        post: takes a function that is to be called where the work was begun.
        told: hears how far it has come.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None], told: Told) -> None:
        self._post, self._told = post, told
        self._asked = threading.Event()
        self._share = -1.0

    def stop(self) -> None:
        """Ask the work to end; it does at its next step."""
        self._asked.set()

    @property
    def stopped(self) -> bool:
        """Whether the work was asked to end."""
        return self._asked.is_set()

    def say(self, doing: str) -> None:
        """Begin something that is said in words.

        Raises:
            Stopped: the work was asked to end.
        """
        self._share = -1.0
        self.report(0.0, doing)

    def report(self, share: float, doing: str) -> None:
        """How far this has come; what a widget takes as ``progress=``.

        Raises:
            Stopped: the work was asked to end.
        """
        self.require_wanted()
        if share >= self._share + _NOTICED or share < self._share or share == 1.0:
            self._share = share
            self._post(lambda: self._told(doing, share))

    def put(self, result: Callable[[], None]) -> None:
        """Have a result put in place where the work was begun.

        Raises:
            Stopped: the work was asked to end.
        """
        self.require_wanted()
        self._post(result)

    def require_wanted(self) -> None:
        """Raises:
        Stopped: the work was asked to end.
        """
        if self.stopped:
            raise Stopped


Task = Callable[[Work], None]


class Desk:
    """Where one piece of work at a time is done; a new one ends the one before.

    Args:
        told: hears what is being done, and the share done; an empty text when nothing is.
        failed: hears what went wrong, in words.
        stopped: is called where work was ended before it was done.

    Example:
        >>> desk = Desk(told=print, failed=print, stopped=lambda: None)
        >>> seconds = desk.here(lambda work: work.put(lambda: print("done")))
        done
        0.0
    """

    def __init__(self, told: Told, failed: Callable[[str], None], stopped: Callable[[], None]) -> None:
        self._told, self._failed, self._stopped = told, failed, stopped
        self._work: Work | None = None
        self._thread: threading.Thread | None = None
        self._posts: SimpleQueue[tuple[Work, Callable[[], None]]] = SimpleQueue()

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._work is not None

    def here(self, task: Task) -> None:
        """Do a task now, in this thread. What is being done in another one is ended.

        Raises:
            Exception: what the task raises, unless it is an error of this library, which is only told.
        """
        self._end()
        work = self._work = Work(lambda call: call(), self._told)
        try:
            task(work)
        except TokenTMError as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
            raise
        finally:
            if self._work is work:
                self._finish()

    def apart(self, task: Task) -> None:
        """Do a task in a thread of its own; without a running loop to come back to, in this one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.here(task)
        before = self._thread
        if self._work is not None:
            self._work.stop()
        context = contextvars.copy_context()

        def post(call: Callable[[], None]) -> None:
            self._posts.put((work, call))
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._put, context=context)

        work = self._work = Work(post, self._told)
        self._thread = threading.Thread(target=_run, args=(task, work, before, post, self), daemon=True)
        self._told("getting ready", 0.0)
        self._thread.start()

    def stop(self) -> None:
        """Ask what is being done to end."""
        if self._work is not None:
            self._work.stop()

    def settle(self) -> None:
        """Wait for what is being done, and have its results put in place."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._put()

    def _end(self) -> None:
        """End what is being done, and forget what has come of it."""
        self.stop()
        self._work = None
        self.settle()

    def _put(self) -> None:
        """Put in place what has come of the present work; what was begun before is no longer wanted."""
        while True:
            try:
                work, call = self._posts.get_nowait()
            except Empty:
                return
            if work is self._work:
                call()

    def _finish(self) -> None:
        self._work = None
        self._told("", 0.0)

    def _give_up(self) -> None:
        self._finish()
        self._stopped()

    def _fail(self, error: Exception) -> None:
        self._failed(str(error) if isinstance(error, TokenTMError) else f"{type(error).__name__}: {error}")
        self._finish()


def _run(
    task: Task,
    work: Work,
    before: threading.Thread | None,
    post: Callable[[Callable[[], None]], None],
    desk: Desk,
) -> None:
    """A thread: the task, after the thread before it has ended."""
    if before is not None:
        before.join()
    try:
        with stoppable(lambda: work.stopped):
            work.require_wanted()
            task(work)
    except Stopped:
        post(desk._give_up)
    except Exception as error:
        reason = error
        post(lambda: desk._fail(reason))
    else:
        post(desk._finish)
