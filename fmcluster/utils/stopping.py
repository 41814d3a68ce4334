"""Long work that may be told to end: who starts it gives an event, its loops look at it.

Python ends a process while daemon threads are still in native code, and C++ answers that with an
abort. So threads are waited for, and so that nobody waits long, what they do ends between rounds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from fmcluster.utils.threads import n_threads

J = TypeVar("J")
R = TypeVar("R")
_EVENT: ContextVar[threading.Event | None] = ContextVar("told_to_end", default=None)


class Stopped(BaseException):
    """The work was told to end: no error of it, so what handles errors lets it pass."""


@contextmanager
def stoppable(event: threading.Event | None) -> Iterator[None]:
    """Let `check_stopped` in the block, in this thread, look at `event`."""
    token = _EVENT.set(event)
    try:
        yield
    finally:
        _EVENT.reset(token)


def check_stopped() -> None:
    """Raise `Stopped` where the work that this is a part of was told to end.

    Raises
    ------
    Stopped
        It was.
    """
    event = _EVENT.get()
    if event is not None and event.is_set():
        raise Stopped


def carried(work: Callable[[J], R]) -> Callable[[J], R]:
    """Return `work` for a pool's threads, told to end with the thread that gives them work."""
    event = _EVENT.get()

    def run(job: J) -> R:
        with stoppable(event):
            check_stopped()
            return work(job)

    return run


def in_threads(work: Callable[[J], R], jobs: Sequence[J], *, most: int) -> Iterator[R]:
    """Yield what becomes of each job, in their order, by at most `most` threads."""
    size = min(n_threads(), len(jobs), most)
    if size < 2:
        yield from map(carried(work), jobs)
        return
    with ThreadPoolExecutor(size) as pool:
        yield from pool.map(carried(work), jobs)
