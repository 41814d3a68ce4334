"""While a head trains on CPU: one thread, no denormal numbers, equal labels on any machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

# What is one for the whole process while a network trains: Accelerate's state. Heads that are
# fitted in several threads take turns, so each learns what it would have learned alone.
ONE_TRAINING = threading.RLock()


class _Inside:
    """How many threads are inside `one_thread`, and the count that the first of them found."""

    lock = threading.Lock()
    n_threads = 0
    before = 1


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Run torch's CPU work of this thread on one thread inside, restoring the count after.

    torch keeps a count for each thread and one that new threads begin with. Asking for the count
    makes a thread take that one over, so that nobody else's change reaches it later; and what is
    restored is the count of before anybody came in, not the 1 of one who was already inside.
    """
    if device.type != "cpu":
        yield
        return
    with _Inside.lock:
        found = torch.get_num_threads()
        if _Inside.n_threads == 0:
            _Inside.before = found
        _Inside.n_threads += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.n_threads -= 1
            torch.set_num_threads(_Inside.before)


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Take numbers under 1e-38 for zero on this thread inside.

    Adam's averages of a weight that gets no more gradients decay to such numbers, and with many of
    them its step took eight times as long.
    """
    smallest = torch.tensor(1e-40)
    before = not bool(smallest * 1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
