"""While a head trains on CPU: one thread, no denormal numbers, equal labels on any machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Run torch's CPU work on one thread inside, restoring the count after."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
