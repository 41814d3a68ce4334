"""The page on speed is made from its JSON, and the committed figures keep what was promised."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def results():
    return json.loads((BENCHMARKS / "results" / "speed.json").read_text(encoding="utf-8"))


@pytest.fixture
def cases(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_speed_cases")


def test_the_page_is_that_of_the_json(results, cases):
    speed = importlib.import_module("speed")
    sinkhorn = json.loads((BENCHMARKS / "results" / "sinkhorn.json").read_text(encoding="utf-8"))
    written = (BENCHMARKS / "results" / "speed.md").read_text(encoding="utf-8")
    assert written == speed.page(results, sinkhorn), "run: benchmarks/speed.py --table-only"


def test_embedding_keeps_its_bars(results):
    (cell,) = results["texts"].values()
    assert cell["ratios"]["SentenceTransformer.encode"] >= 1.2
    assert cell["ratios"]["bare forward pass"] >= 0.95


def test_every_trained_head_has_its_epoch(results, cases):
    assert set(results["epochs"]) == set(cases.TRAINED)


def test_drawn_neighbors_are_other_rows_of_the_cluster_nearest_first(cases):
    x, y = cases.planted(300, 8, 4)
    graph = cases.drawn_graph(x, y, 5)
    assert (y[graph.indices] == y[:, None]).all()
    assert (graph.indices != np.arange(300)[:, None]).all()
    assert (np.diff(graph.similarities, axis=1) <= 0).all()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(
        graph.similarities[:, 0], (unit * unit[graph.indices[:, 0]]).sum(axis=1), atol=1e-5
    )
