"""ACC against brute force, NMI and ARI against scikit-learn, and invariants of `evaluate`."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, log_loss, normalized_mutual_info_score

from fmcluster.functional.metrics import accuracy, ari, class_thirds, evaluate, matched_correct, nmi

ALWAYS = {"acc", "nmi", "ari", "macro_acc", "head_acc", "medium_acc", "tail_acc", "n_clusters"}
CONFIDENCE = {"ece", "ece_mass", "auroc", "aurc", "eaurc", "fpr95", "mean_confidence"}
PROBA = {"ece_classwise", "brier", "nll"}

partitions = st.integers(1, 5).flatmap(
    lambda k: st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k)), min_size=2, max_size=40)
)


def brute_force_accuracy(y: np.ndarray, labels: np.ndarray) -> float:
    classes, clusters = np.unique(y), np.unique(labels)
    size = max(len(classes), len(clusters))
    best = 0.0
    for order in permutations(range(size), len(clusters)):
        names = {
            c: classes[j] if j < len(classes) else None
            for c, j in zip(clusters, order, strict=True)
        }
        best = max(best, np.mean([names[c] == t for c, t in zip(labels, y, strict=True)]))
    return best


@settings(max_examples=50, deadline=None)
@given(partitions)
def test_partition_scores_equal_the_oracles(pairs):
    y, labels = np.array(pairs).T
    assert accuracy(y, labels) == pytest.approx(brute_force_accuracy(y, labels))
    assert nmi(y, labels) == pytest.approx(normalized_mutual_info_score(y, labels), abs=1e-9)
    assert ari(y, labels) == pytest.approx(adjusted_rand_score(y, labels), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10_000))
def test_renaming_clusters_changes_nothing(k, seed):
    rng = np.random.default_rng(seed)
    y, labels = rng.integers(0, k, 120), rng.integers(0, k, 120)
    names = np.array([f"cluster {i}" for i in rng.permutation(k)])
    before, after = evaluate(y, labels), evaluate(y.astype(str), names[labels])
    # Figures a class may differ where two matchings keep equally many rows.
    for name in ("acc", "nmi", "ari", "n_clusters"):
        assert after[name] == pytest.approx(before[name], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_acc_is_never_below_the_largest_overlap(k, n_classes, seed):
    rng = np.random.default_rng(seed)
    y, labels = rng.integers(0, n_classes, 80), rng.integers(0, k, 80)
    largest = max(np.mean((y == a) & (labels == b)) for a in set(y) for b in set(labels))
    assert accuracy(y, labels) >= largest - 1e-12


def test_unassigned_rows_are_wrong():
    y = np.repeat([0, 1], 5)
    labels = y.copy()
    labels[[0, 9]] = -1
    assert accuracy(y, labels) == pytest.approx(0.8)
    assert evaluate(y, labels)["n_clusters"] == 2.0
    assert accuracy(y, np.full(10, -1)) == 0.0
    assert nmi(y, labels) == pytest.approx(normalized_mutual_info_score(y, labels))


def test_surplus_clusters_and_classes_are_wrong():
    y = np.repeat([0, 1], 10)
    halves = np.repeat([0, 1, 2, 3], 5)
    assert accuracy(y, halves) == pytest.approx(0.5)
    assert accuracy(halves, y) == pytest.approx(0.5)


def test_thirds_are_by_size_and_sum_back_to_the_whole():
    rng = np.random.default_rng(3)
    sizes = [90, 40, 30, 20, 10, 6, 4]
    y = np.repeat(np.arange(7), sizes)
    labels = np.where(rng.random(len(y)) < 0.3, rng.integers(0, 7, len(y)), y)
    figures = evaluate(y, labels)
    head, medium, tail = class_thirds(sizes)
    assert (head.tolist(), medium.tolist(), tail.tolist()) == ([0, 1, 2], [3, 4], [5, 6])
    shares = [np.isin(y, third).mean() for third in (head, medium, tail)]
    parts = [figures[f"{name}_acc"] for name in ("head", "medium", "tail")]
    assert np.dot(shares, parts) == pytest.approx(figures["acc"])
    correct = matched_correct(y, labels)
    assert figures["tail_acc"] == pytest.approx(correct[np.isin(y, tail)].mean())
    recalls = [correct[y == c].mean() for c in range(7)]
    assert figures["macro_acc"] == pytest.approx(np.mean(recalls))


def test_two_classes_have_a_head_and_a_tail():
    figures = evaluate([0, 0, 0, 1], [0, 0, 1, 1])
    assert (figures["head_acc"], figures["tail_acc"]) == (pytest.approx(2 / 3), 1.0)
    assert figures["medium_acc"] == figures["acc"]


@pytest.fixture
def sample():
    rng = np.random.default_rng(1)
    proba = rng.dirichlet(np.full(5, 0.5), 400)
    labels = proba.argmax(axis=1)
    y = np.where(rng.random(400) < 0.6, labels, rng.integers(0, 5, 400))
    return (y * 3) % 5, labels, proba


def test_keys_are_the_contract_and_values_plain_finite_floats(sample):
    y, labels, proba = sample
    assert set(evaluate(y, labels)) == ALWAYS
    assert set(evaluate(y, labels, confidence=proba.max(axis=1))) == ALWAYS | CONFIDENCE
    figures = evaluate(y, labels, proba)
    assert set(figures) == ALWAYS | CONFIDENCE | PROBA
    assert all(type(value) is float and np.isfinite(value) for value in figures.values())
    json.dumps(figures, allow_nan=False)


def test_nll_and_brier_follow_the_matched_columns(sample):
    y, labels, proba = sample
    figures = evaluate(y, labels, proba)
    # The class of column j is (3 j) mod 5, so column j' = 2 y is right for class y.
    target = (2 * y) % 5
    assert figures["nll"] == pytest.approx(log_loss(target, np.clip(proba, 1.2e-7, 1)), rel=1e-5)
    assert figures["brier"] == pytest.approx(((proba - np.eye(5)[target]) ** 2).sum(1).mean())
    assert figures["mean_confidence"] == pytest.approx(proba.max(axis=1).mean())


def test_columns_without_a_class_are_always_wrong():
    proba = np.eye(4)[np.repeat([0, 1, 2, 3], 5)]
    y = np.repeat([0, 0, 1, 1], 5)
    figures = evaluate(y, proba.argmax(axis=1), proba)
    assert figures["acc"] == 0.5
    assert figures["ece"] == pytest.approx(0.5)
    assert figures["brier"] == pytest.approx(1.0)


def test_confidence_replaces_the_top_probability(sample):
    y, labels, proba = sample
    correct = matched_correct(y, labels)
    figures = evaluate(y, labels, proba, confidence=correct.astype(float))
    assert (figures["ece"], figures["auroc"], figures["fpr95"]) == (0.0, 1.0, 0.0)


def test_a_perfect_result_is_perfect_and_finite():
    y = np.repeat([0, 1, 2], 4)
    figures = evaluate(y, y, np.eye(3)[y])
    assert figures["acc"] == figures["nmi"] == figures["ari"] == figures["macro_acc"] == 1.0
    assert figures["ece"] == figures["aurc"] == figures["brier"] == 0.0
    assert figures["auroc"] == 0.5  # nothing is wrong, so nothing can be told apart


@pytest.mark.parametrize(
    ("proba", "message"),
    [
        (np.full((3, 2), 0.5), "3 rows, labels 4"),
        (np.full((4, 2), 0.7), "sum to 1"),
        (np.full((4, 1), 1.0), "expected 0..0"),
    ],
)
def test_evaluate_says_what_is_wrong_with_proba(proba, message):
    with pytest.raises(ValueError, match=message):
        evaluate([0, 0, 1, 1], [0, 0, 1, 1], proba)
