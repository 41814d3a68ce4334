"""Which clusters are near, which labels are sure, which rows belong nowhere."""

import dataclasses

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.functional.conformal import p_values
from fmcluster.result.loop.outliers import top
from fmcluster.result.loop.reference import joint_rows, reference_of


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(300, 4)


@pytest.fixture(scope="module")
def result(data):
    return fmc.cluster(data.x, n_clusters=4, head="kmeans")


def renamed(result):
    return dataclasses.replace(result, ids=np.array([f"r{i}" for i in range(result.n_rows)]))


def novelty(result, *xs):
    """Conformal p-values of new rows, one array a space, as `update` and `drift` get them."""
    reference = reference_of(result)
    return p_values(reference.strangeness(joint_rows(list(xs)))[0], reference.scores)


def test_top_orders_clusters_by_probability(result):
    clusters, proba = result.top(3)
    assert clusters.shape == proba.shape == (300, 3)
    assert clusters.dtype == np.int64 and proba.dtype == np.float32
    np.testing.assert_array_equal(clusters[:, 0], result.labels)
    np.testing.assert_array_equal(proba[:, 0], result.proba.max(axis=1))
    assert (np.diff(proba, axis=1) <= 0).all()
    np.testing.assert_allclose(result.top(4)[1].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_of_equal_probabilities_the_first_is_first_however_many_are_asked(result, count):
    shares = np.random.default_rng(0).integers(0, 4, (50, 12)).astype(np.float32)
    shares[:, 0] += 1
    proba = shares / shares.sum(axis=1, keepdims=True)
    found, _ = top(dataclasses.replace(result, proba=proba), count)
    np.testing.assert_array_equal(found, np.argsort(-proba, axis=1, kind="stable")[:, :count])


@pytest.mark.parametrize("count", [0, 5, -1])
def test_top_of_more_clusters_than_there_are(result, count):
    with pytest.raises(ValueError, match=rf"count={count} is outside 1..4"):
        result.top(count)
    with pytest.raises(TypeError, match="whole number"):
        result.top(1.5)


def test_abstain_keeps_the_sure_labels(result):
    least = float(np.median(result.confidence))
    kept = result.abstain(least)
    assert kept.dtype == np.int64
    np.testing.assert_array_equal(kept == -1, result.confidence < least)
    np.testing.assert_array_equal(kept[kept >= 0], result.labels[kept >= 0])
    np.testing.assert_array_equal(result.abstain(0), result.labels)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="min_confidence"):
            result.abstain(wrong)


def test_a_far_row_is_the_outlier_under_every_head(data):
    x = data.x.copy()
    x[17] = np.linalg.svd(data.x)[2][-1]  # orthogonal to what the rows share
    for head in ("kmeans", "auto"):
        found = renamed(fmc.cluster(x, n_clusters=4, head=head))
        assert found.outlier_score[17] == 1.0
        assert found.outliers(alpha=0.01)[0] == "r17"


def test_the_score_is_the_share_of_rows_that_fit_better(result):
    score = result.outlier_score
    assert score.shape == (300,) and score.min() == 0 and score.max() == 1
    assert np.sort(score) == pytest.approx(np.arange(300) / 299)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.5])
def test_alpha_of_the_rows_are_named_the_least_fitting_first(result, alpha):
    found = renamed(result).outliers(alpha)
    assert len(found) == int(alpha * 300)
    rows = [int(name[1:]) for name in found]
    assert (np.diff(result.outlier_score[rows]) <= 0).all()


def test_alpha_means_what_it_says_of_rows_held_out(blobs):
    shares = []
    for seed in range(4):
        x, _ = blobs(800, 5, seed=seed)
        fitted = fmc.cluster(x[:400], n_clusters=5, head="kmeans", calibrate=False)
        p = novelty(fitted, x[400:])
        shares.append([(p <= alpha).mean() for alpha in (0.05, 0.1)])
    np.testing.assert_allclose(np.mean(shares, axis=0), [0.05, 0.1], rtol=0.3)


def test_rows_of_a_class_never_seen_are_novel(blobs):
    x, y = blobs(600, 6, spread=0.1)
    known = np.flatnonzero(y < 5)
    fitted = fmc.cluster(x[known], n_clusters=5, head="kmeans", calibrate=False)
    assert (novelty(fitted, x[y == 5]) <= 0.01).mean() > 0.95


def test_rows_of_zeros_belong_nowhere(data):
    x = data.x.copy()
    x[[3, 9]] = 0
    found = fmc.cluster(x, n_clusters=4, head="kmeans")
    assert found.outlier_score[[3, 9]].tolist() == [1, 1]
    assert set(found.outliers(1e-6)) == {3, 9}


def test_equal_rows_are_no_outliers():
    found = fmc.cluster(np.ones((40, 3), np.float32), n_clusters=1, head="kmeans")
    assert not found.outlier_score.any() and len(found.outliers(0.5)) == 0
    assert found.top(1)[0].shape == (40, 1)
    assert novelty(found, np.ones((2, 3), np.float32)).tolist() == [1, 1]


def test_a_loaded_result_scores_its_rows_and_new_ones(result, data, tmp_path):
    result.save(tmp_path / "run")
    again = fmc.ClusterResult.load(tmp_path / "run")
    np.testing.assert_array_equal(again.outlier_score, result.outlier_score)
    new = data.x[:5] + 0.1
    np.testing.assert_allclose(novelty(again, new), novelty(result, new), atol=0.02)
    np.testing.assert_array_equal(novelty(again.attach(data.x), new), novelty(result, new))
    assert reference_of(dataclasses.replace(again, reference=None)) is None


def test_what_is_missing_or_wrong_is_said(result):
    bare = dataclasses.replace(result, graph=None)
    for ask in (lambda: bare.outlier_score, bare.outliers):
        with pytest.raises(ValueError, match="needs the neighbor graph"):
            ask()
    for alpha in (0, 1, -0.1, 2, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            result.outliers(alpha)


def test_several_spaces_are_compared_together(blobs):
    a, b = blobs(200, 3).x, blobs(200, 3, seed=1).x
    found = fmc.cluster([a, b], n_clusters=3, head="kmeans")
    p = novelty(found, a[:9], b[:9])
    assert p.shape == (9,) and (p > 0).all() and (p <= 1).all()
