"""How many threads to use: the cores that this process may really have."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator, MutableMapping

# How the threads of OpenMP (torch, faiss, some BLAS) wait for one another. By default they spin
# for some milliseconds; where others use the cores too, a thread then burns its share waiting for
# one that is not running, and a network of many small layers was 40 times slower.
CALM = {"OMP_WAIT_POLICY": "PASSIVE"}


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
    seen = _cores_seen()
    quota = _quota()
    return seen if quota is None else max(1, min(seen, math.ceil(quota)))


def _cores_seen() -> int:
    """Return the cores that this process may run on; what libraries count, too."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(root: str = "/") -> float | None:
    """Return the cores that the kernel grants the process's control groups, None without a limit.

    Of version 2 the least of the group's own and its ancestors'; of version 1 the mounted one's.
    Read here, since joblib, which knows it too, loads numpy and so BLAS: too soon for
    `calm_libraries`.
    """
    found = []
    mount = os.path.join(root, "sys/fs/cgroup")
    group = ""
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        if line.startswith("0::/"):
            group = line[len("0::/") :]
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        found.append(_read(os.path.join(mount, *parts[:depth], "cpu.max")).split())
    own = os.path.join(mount, "cpu")
    found.append(
        [_read(os.path.join(own, f"cpu.cfs_{name}_us")).strip() for name in ("quota", "period")]
    )
    # "max", -1 and files that are not there are no limit.
    known = [pair for pair in found if len(pair) == 2 and all(map(str.isdecimal, pair))]
    limits = [int(quota) / int(period) for quota, period in known if int(quota) and int(period)]
    return min(limits, default=None)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def calm_libraries(environ: MutableMapping[str, str] | None = None) -> None:
    """Let the threads of libraries that are loaded later sleep while they wait, and be few enough.

    For a process of our own, before anything is imported: OpenMP reads its variables once. What
    the user has set is kept. Where this process may use fewer cores than it sees (a container's
    quota, FMCLUSTER_THREADS), libraries are told so; they ask the machine.

    Parameters
    ----------
    environ : mutable mapping, optional
        By default the process's own.
    """
    environ = os.environ if environ is None else environ
    for name, value in CALM.items():
        environ.setdefault(name, value)
    if n_threads() < _cores_seen():
        environ.setdefault("OMP_NUM_THREADS", str(n_threads()))


class _Inside:
    """How many threads are inside `one_torch_thread`, and the count that the first one found."""

    lock = threading.Lock()
    here = threading.local()
    n_threads = 0
    before = 1


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's CPU work of this thread on one thread inside, restoring the count after.

    torch keeps a count for each thread and one that new threads begin with. Asking for the count
    makes a thread take that one over, so that nobody else's change reaches it later; and what is
    restored is the count of before anybody came in, not the 1 of one who was already inside.
    """
    import torch

    if getattr(_Inside.here, "is_inside", False):
        yield
        return
    with _Inside.lock:
        found = torch.get_num_threads()
        if _Inside.n_threads == 0:
            _Inside.before = found
        _Inside.n_threads += 1
        torch.set_num_threads(1)
    _Inside.here.is_inside = True
    try:
        yield
    finally:
        _Inside.here.is_inside = False
        with _Inside.lock:
            _Inside.n_threads -= 1
            torch.set_num_threads(_Inside.before)
