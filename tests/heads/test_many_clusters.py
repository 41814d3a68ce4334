"""Thousands of clusters: rows times clusters is never held whole, and the system enforces it."""

from __future__ import annotations

import sys

import pytest
from helpers_fork import run_forked

SCRIPT = """
import resource, sys
import numpy as np
from fmcluster.heads import make_head

n, k, d = 60_000, 2_500, 16
rng = np.random.default_rng(0)
centers = rng.normal(size=(k, d))
x = (centers[np.arange(n) % k] + 0.2 * rng.normal(size=(n, d))).astype(np.float32)
few = {"n_init": 1, "max_iter": 2, "random_state": 0}
make_head("kmeans", n_clusters=5, **few).fit(x[:4000]).predict(x[:4000])
lines = open("/proc/self/status").read().splitlines()
held = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (held + 3 * n * k, resource.RLIM_INFINITY))
try:
    np.ones((n, k), np.float32)
    sys.exit("no limit")
except MemoryError:
    head = make_head("kmeans", n_clusters=k, **few).fit(x)
    print(head.n_clusters_)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_rows_times_clusters_are_never_held():
    assert int(run_forked(SCRIPT)) > 2_000
