"""One answer for any number of threads: from neighbors to labels, in processes of their own.

Heads that are trained: `test_scan.py` and `training/test_loop.py`, in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
THREADS = (1, 2, 8)
# Several blocks of most there is: neighbors, an index, candidates, nodes, a student, predictions.
SCRIPT = """
import zlib
import numpy as np
from fmcluster.heads import make_head
from fmcluster.utils.threads import n_threads
from fmcluster.vectors.graph import KNNGraph

rng = np.random.default_rng(0)
y = rng.choice(6, 1800, p=np.arange(1, 7) / 21)
x = rng.normal(size=(6, 24))[y] + 0.7 * rng.normal(size=(1800, 24))
x = x.astype(np.float32)

def told(name, values):
    print(name, zlib.crc32(np.ascontiguousarray(values).tobytes()))

graph = KNNGraph.build(x, k=15, method="exact")
told("neighbors", graph.indices)
told("neighbors of an index", KNNGraph.build(x, k=5, method="ivf").indices)
head = make_head("auto", n_clusters=6, max_rows=900, random_state=0).fit(x, graph=graph)
told("auto", head.labels_)
told("probabilities of auto", head.predict_proba(x))
told("kmeans", make_head("kmeans", n_clusters=6, random_state=0).fit(x).labels_)
print("threads", n_threads())
"""


@pytest.fixture(scope="module")
def answers():
    """What processes of one, two and eight threads say, started together."""
    running = {}
    for threads in THREADS:
        counts = dict.fromkeys(("FMCLUSTER_THREADS", "OMP_NUM_THREADS"), str(threads))
        running[threads] = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE", **counts},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    found = {}
    for threads, process in running.items():
        said, wrong = process.communicate(timeout=280)
        assert process.returncode == 0, wrong[-2000:]
        found[threads] = dict(line.rsplit(" ", 1) for line in said.splitlines())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "neighbors",
        "neighbors of an index",
        "auto",
        "probabilities of auto",
        "kmeans",
    ],
)
def test_one_two_and_eight_threads_say_the_same(answers, what):
    assert [answers[threads]["threads"] for threads in THREADS] == ["1", "2", "8"]
    assert len({answers[threads][what] for threads in THREADS}) == 1
