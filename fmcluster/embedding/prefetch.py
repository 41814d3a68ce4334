"""Work ahead in a thread, a bounded number of items and no further."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def prefetch(items: Iterable[T], *, depth: int = 1) -> Iterator[T]:
    """Yield `items`, the next `depth` of which are made in a thread meanwhile.

    An exception in the making is raised here. Leaving the loop early stops the thread, after the
    item in the making. It is no daemon: those are in native code when Python ends, and abort it.

    Parameters
    ----------
    items : iterable
        Its work should release the interpreter lock (decoding, reading) to be worth it.
    depth : int
        Items that may wait; with the one in the making, `depth` + 1 are in memory.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    main = threading.main_thread()

    def put(item: Any) -> bool:
        # At Python's end the loop may be left without a word, and this thread is waited for.
        while not stopped.is_set() and main.is_alive():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
                del item  # who reads it has it now: not held while the next one is made
            put((_END, None))
        except BaseException as error:  # handed over and raised by the reader
            put((_END, error))

    thread = threading.Thread(target=work, name="fmcluster-prefetch")
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item  # nor while the next one is waited for
    finally:
        stopped.set()
        thread.join()
