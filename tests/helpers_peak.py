"""By how many MiB the memory of a process of its own rises while it does one thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_fork import run_forked

# `ru_maxrss` will not do: a child begins with the peak of the process that started it.
_STATUS = """
def peak_reset():
    open("/proc/self/clear_refs", "w").write("5")
def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
"""


def rise(before: str, measured: str, *args: object) -> float:
    """Run `before`, then `measured` with its peak taken; both see `args` as ``sys.argv[1:]``."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a process is measured by Linux's own means")
    code = "\n".join(
        (before, _STATUS, "peak_reset()", 'at = status("VmRSS")', measured),
    )
    said = run_forked(code + '\nprint(status("VmHWM") - at)', *args, timeout=120)
    return float(said.split()[-1])
