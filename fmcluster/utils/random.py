"""Seeds: every random stream is derived from one `random_state` and the name of its use."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np


def seed_of(random_state: Any, *stream: str | int) -> int:
    """Derive a 31-bit seed for a named stream from one `random_state`.

    Parameters
    ----------
    random_state : None, int, numpy RandomState or Generator
        None draws fresh entropy; equal ints give equal seeds on every machine.
    *stream : str or int
        Names of the use, so that two uses of one random_state are independent.
    """
    if random_state is None:
        base = int(np.random.SeedSequence().generate_state(1)[0])
    elif isinstance(random_state, np.random.RandomState):
        # As far as 32-bit integers go, which is what `randint` takes everywhere.
        base = int(random_state.randint(2**31 - 1))
    elif isinstance(random_state, np.random.Generator):
        base = int(random_state.integers(2**31 - 1))
    elif isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        base = int(random_state)
        if base < 0:
            raise ValueError(f"random_state={base} must not be negative")
    else:
        raise TypeError(
            f"random_state must be None, an int or a numpy generator, got {random_state!r}"
        )
    keys = [zlib.crc32(str(part).encode()) for part in stream]
    # 31 bits: faiss takes no more, and none is negative.
    return int(np.random.SeedSequence([base, *keys]).generate_state(1)[0]) & 0x7FFFFFFF
