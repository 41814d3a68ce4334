"""How many threads to use: the cores that this process may really have."""

from __future__ import annotations

import os


def n_threads() -> int:
    """Return the number of cores this process may use: its affinity and its container's quota.

    The variable FMCLUSTER_THREADS overrides it.

    Raises
    ------
    ValueError
        FMCLUSTER_THREADS is no positive whole number.
    """
    asked = os.environ.get("FMCLUSTER_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"FMCLUSTER_THREADS={asked!r}: give a whole number of at least 1")
        return int(asked)
    import joblib

    return max(int(joblib.cpu_count()), 1)
