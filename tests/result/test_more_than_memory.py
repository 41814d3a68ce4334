"""Results whose probabilities are more than is held: the same as any other, and never held."""

import os
import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import make_blobs

import fmcluster as fmc
from fmcluster.calibration.fit import without_evidence
from fmcluster.utils import blocks


@pytest.fixture(scope="module")
def data():
    X, y = make_blobs(400, 6, centers=8, cluster_std=2.0, random_state=0)
    return X.astype(np.float32), y


def story(X, y, head, folder):
    """What is asked of a result, in the order in which people ask."""
    result = fmc.cluster(X, n_clusters=8, head=head, random_state=0)
    yield result
    yield result.merge([0, 1]).move([3, 4], 2).rename({1: "one"}).split(3)
    yield result.dissolve(2).undo()
    yield result.calibrate(np.arange(60), y[:60])
    yield result.with_answers({i: int(y[i]) for i in range(0, 400, 8)})
    yield result.update(X[:50] + 0.1, new_clusters="auto")
    yield result.at_level(result.levels[0].n_clusters)
    result.save(folder)
    yield fmc.ClusterResult.load(folder)


@pytest.mark.parametrize("head", ["auto", "kmeans"])
def test_a_result_in_a_file_is_the_result_that_is_held(data, head, monkeypatch, tmp_path):
    X, y = data
    held = list(story(X, y, head, tmp_path / "held"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(blocks, "IN_MEMORY", 1_000)
    monkeypatch.setattr("fmcluster.result.files.IN_MEMORY", 1_000)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 8 * 37)
    filed = list(story(X, y, head, tmp_path / "filed"))
    for a, b in zip(held, filed, strict=True):
        assert blocks._map_of(b.proba) is not None and blocks._map_of(a.proba) is None
        # Predictions of other blocks are of other matrix products: of the last bits alone.
        np.testing.assert_allclose(a.proba, b.proba, atol=1e-5)
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-5)
        assert a.edits == b.edits and a.names == b.names
        np.testing.assert_array_equal(a.top(2)[0], b.top(2)[0])
    one, other = held[0].evaluate(y), filed[0].evaluate(y)
    assert one == pytest.approx(other, abs=1e-4)
    np.testing.assert_array_equal(held[0].predict(X + 0.1), filed[0].predict(X + 0.1))
    del a, b, filed
    assert os.listdir(scratch) == []


def test_the_probabilities_of_many_clusters_are_never_held(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    n, k = 20_000, 300
    X = rng.normal(size=(k, 8))[rng.integers(k, size=n)] * 3 + rng.normal(size=(n, 8))
    X = X.astype(np.float32)
    monkeypatch.setattr(blocks, "IN_MEMORY", 2**20)
    monkeypatch.setattr("fmcluster.result.files.IN_MEMORY", 2**20)
    for module in ("fmcluster.utils.blocks", "fmcluster.heads.base"):
        monkeypatch.setattr(f"{module}.BLOCK_VALUES", 2**16)
    result = fmc.cluster(X, n_clusters=k, head="kmeans", random_state=0, calibrate=False)
    nothing = X.copy()
    nothing[:5] = 0
    steps = {
        "head": lambda: result.head.predict_proba(X),
        "calibrated": lambda: result.calibrate(np.arange(60), np.arange(60) % 7),
        "without evidence": lambda: without_evidence(result.proba, [nothing]),
        "saved": lambda: result.save(tmp_path / "run"),
        "loaded": lambda: fmc.ClusterResult.load(tmp_path / "run"),
        "top": lambda: result.top(3),
        "evaluated": lambda: result.evaluate(rng.integers(3, size=n)),
        "edited": lambda: result.rename({0: "first"}).merge([0, 1]),
    }
    assert result.proba.nbytes == n * k * 4
    tracemalloc.start()
    for name, step in steps.items():
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        step()
        peak = tracemalloc.get_traced_memory()[1] - before
        assert peak < n * k * 4 * 3 / 4, name  # numpy saves 16 MiB at a time
    tracemalloc.stop()
