"""Where the seconds of a call went: parts of the work add to a record that a caller opened."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from contextvars import ContextVar

_record: ContextVar[dict[str, float] | None] = ContextVar("seconds_by_part", default=None)


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, float]]:
    """Give a dict of seconds by part, which `spent` on this thread fills meanwhile."""
    seconds: dict[str, float] = defaultdict(float)
    token = _record.set(seconds)
    try:
        yield seconds
    finally:
        _record.reset(token)


@contextlib.contextmanager
def spent(part: str) -> Iterator[None]:
    """Add the wall seconds inside to `part` of the open record; without one do nothing."""
    record = _record.get()
    if record is None:
        yield
        return
    start = time.perf_counter()
    try:
        yield
    finally:
        record[part] += time.perf_counter() - start
