"""While a head trains on CPU: one thread, no denormal numbers, equal labels on any machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from fmcluster.utils.threads import one_torch_thread

# What is one for the whole process while a network trains: Accelerate's state. Heads that are
# fitted in several threads take turns, so each learns what it would have learned alone.
ONE_TRAINING = threading.RLock()


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Run torch's CPU work of this thread on one thread inside; on other devices do nothing."""
    with one_torch_thread() if device.type == "cpu" else contextlib.nullcontext():
        yield


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
