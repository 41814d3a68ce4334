"""Candidates are the same for any number of threads."""

import numpy as np
import pytest

from fmcluster.heads.auto.candidates import make_candidates
from fmcluster.partition.refine import RefinementContext
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows


@pytest.mark.parametrize("shares", [None, np.full(4, 0.25)])
def test_threads_change_nothing(monkeypatch, shares):
    rng = np.random.default_rng(0)
    x = unit_rows(rng.normal(size=(160, 8)) + 4 * np.eye(4, 8)[np.repeat(np.arange(4), 40)])
    x = x.astype(np.float32)
    found = []
    for threads in ("1", "2", "8"):
        monkeypatch.setenv("FMCLUSTER_THREADS", threads)
        context = RefinementContext(x, KNNGraph.build(x, k=10), 0)
        found.append(make_candidates(context, 4, shares, seed=1))
    names = [[(c.name, c.score, c.balanced) for c in candidates] for candidates in found]
    assert names[0] == names[1] == names[2] and len(names[0]) > 20
    assert any(c.balanced for c in found[0]) == (shares is not None)
    for a, b, c in zip(*found, strict=True):
        assert (a.labels == b.labels).all() and (a.labels == c.labels).all()
