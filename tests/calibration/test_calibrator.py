"""Confidence without labels and with a few: what it must keep, and what it must reach."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fmcluster.calibration import base_partitions
from fmcluster.calibration.calibrator import Calibrator, with_confidence
from fmcluster.calibration.fit import fit_calibrated, most_likely_correct
from fmcluster.calibration.from_labels import from_labels
from fmcluster.calibration.label_free import label_free
from fmcluster.functional.assignment import align_labels
from fmcluster.functional.calibration import auroc, ece
from fmcluster.functional.metrics import matched_correct
from fmcluster.heads import make_head
from fmcluster.partition.estimates.sizes import most_correct
from fmcluster.vectors.rows import as_spaces


def head_of(x: np.ndarray, y: np.ndarray, k: int, temperature: float, seed: int = 0):
    """Probabilities of a nearest-centroid head whose centroids were found with some error."""
    rng = np.random.default_rng(seed)
    centroids = np.stack([x[y == c].mean(axis=0) for c in range(k)])
    centroids += 0.2 * rng.normal(size=centroids.shape) * np.abs(centroids).mean() * 3
    logits = x @ centroids.T / temperature
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def noisy(blobs):
    """Overlapping clusters under an overconfident head: x, y, proba, labels, correct."""
    x, y = blobs(1500, 5, 12, spread=0.42)
    proba = head_of(x, y, 5, 0.01)
    labels = proba.argmax(axis=1)
    return x, y, proba, labels, matched_correct(y, labels)


@pytest.fixture(scope="module")
def free(noisy):
    x, _, proba, _, _ = noisy
    return label_free(proba, spaces=[x], random_state=0)


def test_label_free_mends_the_level_and_keeps_labels_and_ranking(noisy, free):
    x, _, proba, labels, correct = noisy
    confidence = free.confidence(proba, [x])
    assert ece(proba.max(axis=1), correct) > 0.12
    assert ece(confidence, correct) < 0.5 * ece(proba.max(axis=1), correct)
    assert auroc(confidence, correct) > auroc(proba.max(axis=1), correct) - 0.02
    assert free.level == pytest.approx(confidence.mean(), abs=0.01)
    calibrated = free.transform(proba, [x])
    np.testing.assert_array_equal(calibrated.argmax(axis=1), labels)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(calibrated.max(axis=1), confidence, atol=1e-4)


def test_a_well_separated_partition_is_trusted(blobs):
    x, y = blobs(600, 4, 16, spread=0.05)
    proba = np.full((600, 4), 0.2)
    proba[np.arange(600), y] = 0.4
    assert label_free(proba, spaces=[x]).confidence(proba, [x]).mean() > 0.95


def test_noise_is_not_trusted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 30)).astype(np.float32)
    proba = np.eye(6)[rng.integers(0, 6, 600)] * 0.94 + 0.01
    assert label_free(proba, spaces=[x]).level < 0.4


def test_label_free_takes_several_spaces_and_views(noisy):
    x, _, proba, _, _ = noisy
    rng = np.random.default_rng(0)
    second = rng.normal(size=(len(x), 4)).astype(np.float32)
    moved = [[x + 0.05 * rng.normal(size=x.shape).astype(np.float32)], []]
    calibrator = label_free(proba, spaces=[x, second], views=moved, random_state=1)
    assert calibrator.confidence(proba, [x, second]).shape == (len(x),)
    with pytest.raises(ValueError, match="xs has shape"):
        calibrator.confidence(proba, [x])


def test_equal_seeds_give_equal_calibrators_and_new_rows_need_no_graph(noisy, free):
    x, _, proba, _, _ = noisy
    again = label_free(proba, spaces=[x], random_state=0)
    whole = free.confidence(proba, [x])
    np.testing.assert_array_equal(again.confidence(proba, [x]), whole)
    np.testing.assert_allclose(free.confidence(proba[:7], [x[:7]]), whole[:7], atol=1e-6)
    assert free.confidence(proba[:7]).shape == (7,)


def test_confidence_rises_with_the_head_where_only_the_head_is_known(noisy, free):
    proba = noisy[2]
    order = np.argsort(proba.max(axis=1))
    assert (np.diff(free.confidence(proba)[order]) >= -1e-12).all()


@pytest.mark.parametrize("kind", ["free", "labels", "both"])
def test_state_restores_the_same_calibrator(noisy, free, kind):
    x, y, proba, _, _ = noisy
    rows = np.arange(0, 1500, 15)
    names = np.array([f"class {c}" for c in y])
    base = free if kind == "both" else None
    made = free if kind == "free" else from_labels(proba, rows, names[rows], base=base, xs=[x])
    arrays, config = made.state()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    back = Calibrator.from_state(arrays, json.loads(json.dumps(config, allow_nan=False)))
    np.testing.assert_array_equal(back.transform(proba, [x]), made.transform(proba, [x]))
    assert back.about() == made.about()
    assert back.class_of_cluster == made.class_of_cluster


@pytest.mark.parametrize(
    ("m", "method"), [(8, "shift"), (100, "logistic"), (400, "logistic+isotonic")]
)
def test_the_method_grows_with_the_labels(noisy, m, method):
    _, y, proba, _, correct = noisy
    rows = np.random.default_rng(0).choice(1500, m, replace=False)
    calibrator = from_labels(proba, rows, y[rows])
    assert (calibrator.method, calibrator.n_labels) == (method, m)
    confidence = calibrator.confidence(proba)
    assert auroc(confidence, correct) == pytest.approx(auroc(proba.max(axis=1), correct), abs=0.03)


def test_a_hundred_labels_reach_the_level(noisy):
    _, y, proba, _, correct = noisy
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(5):
        rows = rng.choice(1500, 100, replace=False)
        calibrator = from_labels(proba, rows, y[rows])
        errors.append(ece(calibrator.confidence(proba), correct))
        assert calibrator.ece_after < calibrator.ece_before
    assert np.mean(errors) < 0.09
    assert np.mean(errors) < 0.6 * ece(proba.max(axis=1), correct)


def test_importance_weights_undo_a_choice_by_confidence(noisy):
    _, y, proba, _, correct = noisy
    own = proba.max(axis=1)
    low = own < np.quantile(own, 0.3)
    rng = np.random.default_rng(5)
    chance = np.where(low, 8.0, 1.0)
    plain, weighted = [], []
    for _ in range(4):
        rows = rng.choice(1500, 120, replace=False, p=chance / chance.sum())
        plain.append(from_labels(proba, rows, y[rows]).level)
        weighted.append(from_labels(proba, rows, y[rows], weights=1 / chance[rows]).level)
    assert abs(np.mean(weighted) - correct.mean()) < 0.04
    assert abs(np.mean(weighted) - correct.mean()) <= abs(np.mean(plain) - correct.mean()) + 0.01


def test_few_labels_start_from_the_label_free_level(noisy, free):
    x, y, proba, _, _ = noisy
    rows = np.arange(3)
    calibrator = from_labels(proba, rows, y[rows], base=free, xs=[x])
    assert calibrator.level == pytest.approx(free.level, abs=0.12)
    same = from_labels(proba, rows, y[rows], base=free, confidence=free.confidence(proba, [x]))
    np.testing.assert_allclose(same.transform(proba, [x]), calibrator.transform(proba, [x]))


def test_given_confidence_without_its_calibrator_still_serves_new_rows(noisy, free):
    x, y, proba, _, correct = noisy
    rows = np.arange(0, 1500, 10)
    calibrator = from_labels(proba, rows, y[rows], confidence=free.confidence(proba, [x]))
    assert ece(calibrator.confidence(proba), correct) < 0.08


def test_clusters_are_named_after_classes(noisy):
    _, y, proba, labels, _ = noisy
    classes = np.array(["ant", "bee", "cow", "dog", "elk"])[y]
    rows = np.arange(0, 1500, 10)
    named = from_labels(proba, rows, classes[rows]).class_of_cluster
    expected = align_labels(y, labels, n_clusters=5)
    for cluster, name in named.items():
        assert name == np.array(["ant", "bee", "cow", "dog", "elk"])[expected[labels == cluster][0]]
    assert all(type(name) is str for name in named.values())


def test_with_confidence_never_lets_another_column_overtake():
    proba = np.array([[0.5, 0.49, 0.01], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3], [0.34, 0.33, 0.33]])
    for level in (0.0, 0.2, 0.34, 0.6, 1.0):
        out = with_confidence(proba, np.full(4, level))
        np.testing.assert_allclose(out.sum(axis=1), 1.0, atol=1e-5)
        assert (out >= 0).all()
        assert (out.argmax(axis=1) == 0).all()
        np.testing.assert_allclose(out.max(axis=1), max(level, 1 / 3), atol=2e-4)
    assert with_confidence(np.ones((2, 1)), np.full(2, 0.3)).tolist() == [[1.0], [1.0]]


def test_confidence_of_many_rows_is_set_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    proba, level = rng.dirichlet(np.ones(5), 50), rng.uniform(0.2, 1, 50)
    whole = with_confidence(proba, level)
    monkeypatch.setattr("fmcluster.utils.blocks.BLOCK_VALUES", 7 * 5)
    np.testing.assert_array_equal(with_confidence(proba, level), whole)
    np.testing.assert_allclose(whole.max(axis=1), np.maximum(level, 0.2), atol=1e-4)


def test_one_cluster_and_few_rows_are_defined():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    assert (
        label_free(np.ones((6, 1)), spaces=[x]).confidence(np.ones((6, 1)), [x]).tolist()
        == [1.0] * 6
    )
    proba = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    assert np.isfinite(label_free(proba, spaces=[x]).transform(proba, [x])).all()
    one = from_labels(proba, [0], ["a"])
    assert one.class_of_cluster == {0: "a"}
    mixed = from_labels(proba, [0, 2], np.array(["a", "b"], dtype=object))
    assert mixed.class_of_cluster == {0: "a", 1: "b"}
    assert 1 / 3 <= one.level <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [0, 0]}, "given twice"),
        ({"rows": [0, 9999]}, "expected 0..1499"),
        ({"rows": []}, "list of row numbers"),
        ({"y": [1]}, "1 entries for 2 rows"),
        ({"weights": [1.0, -1.0]}, "2 positive numbers"),
        ({"confidence": [0.5]}, r"confidence has shape \(1,\)"),
    ],
)
def test_wrong_labels_are_named(noisy, change, message):
    given = {"rows": [0, 1], "y": [0, 1], "weights": None, "confidence": None} | change
    with pytest.raises(ValueError, match=message):
        from_labels(
            noisy[2],
            given["rows"],
            given["y"],
            weights=given["weights"],
            confidence=given["confidence"],
        )


def test_label_free_names_lengths_that_differ(noisy):
    x, _, proba, _, _ = noisy
    with pytest.raises(ValueError, match="proba has 1500 rows, embeddings 10"):
        label_free(proba, spaces=[x[:10]])
    with pytest.raises(ValueError, match="n_samples=1"):
        label_free(proba[:1], spaces=[x[:1]])


def test_a_family_that_cannot_reproduce_itself_counts_for_less(blobs):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    assigned = np.stack([y, y, rng.integers(0, 4, 400), rng.integers(0, 4, 400)])
    weights = base_partitions.algorithm_weights(["ward", "ward", "kmeans", "kmeans"], assigned, 4)
    assert weights["ward"] > 0.95
    assert sum(weights.values()) == pytest.approx(1.0)


def test_region_shares_count_votes():
    shares = base_partitions.vote_shares(
        np.array([0, 0, 1]), np.array([[0, 1, 1], [0, 0, -1]]), (3, 2)
    )
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.0, 0.5], [0.0, 0.0]])


@pytest.mark.realdata
def test_kmeans_on_real_texts_becomes_honest(shared_dir):
    from fmcluster.heads.kmeans import KMeansHead

    with np.load(shared_dir / "embeddings" / "tweet.npz") as data:
        x, y = np.asarray(data["x"], np.float32), data["y"]
    head = KMeansHead(89, n_init=1, random_state=0).fit(x)
    proba = head.predict_proba(x)
    correct = matched_correct(y, head.labels_)
    confidence = label_free(proba, spaces=[x], random_state=0).confidence(proba, [x])
    assert ece(proba.max(axis=1), correct) > 0.15
    assert ece(confidence, correct) < 0.1
    assert auroc(confidence, correct) > auroc(proba.max(axis=1), correct) + 0.05


def test_a_calibrator_moves_to_the_level_that_labels_tell():
    rng = np.random.default_rng(0)
    x = np.eye(3, 6)[np.repeat(np.arange(3), 40)] + 0.3 * rng.normal(size=(120, 6))
    head = make_head("kmeans", n_clusters=3, random_state=0).fit(x)
    scores = head.predict_proba(x)
    before = label_free(scores, spaces=as_spaces(x), labels=head.labels_)
    sure = before.confidence(scores, x)
    after = before.at_level(sure, 0.6, n_labels=12)
    found = after.confidence(scores, x)
    assert found.mean() == pytest.approx(0.6, abs=0.05) and after.n_labels == 12
    ranked = found[np.argsort(sure, kind="stable")]
    assert (np.diff(ranked) > -1e-9).all()  # rows keep their order


def test_no_more_is_expected_to_be_right_than_the_sizes_allow(blobs):
    data = blobs(k=4, d=16, spread=0.3, sizes=[600, 60, 40, 20], seed=1)
    head = make_head("kmeans", n_clusters=4, random_state=0)
    free = fit_calibrated(head, data.x, random_state=0)
    shares = np.bincount(head.labels_, minlength=4) / 720
    most = most_likely_correct(free.spaces, head.labels_, 4, 0)
    true = np.sort([600, 60, 40, 20]) / 720
    assert most == pytest.approx(most_correct(shares, true), abs=0.05)
    assert free.proba.max(axis=1).mean() <= most + 0.02
    loose = label_free(free.scores, spaces=data.x, labels=head.labels_, random_state=0)
    tight = label_free(free.scores, spaces=data.x, labels=head.labels_, at_most=0.5, random_state=0)
    assert tight.level == pytest.approx(0.5, abs=0.01) and tight.level < loose.level
