"""Columns of probabilities stay a distribution, and partitions nest, whatever is edited."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcluster.result.editing.columns import (
    drop_column,
    merge_columns,
    merged_numbers,
    numbers_without,
    settle,
    split_columns,
)


def rows(seed, n=40, k=6):
    """Probabilities that are sure and unsure, and their labels."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.4), n).astype(np.float32)
    p[0] = 1 / k
    p[1] = np.eye(k)[2]
    return p, p.argmax(axis=1)


def check(proba, labels):
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(proba.argmax(axis=1), labels)
    assert proba.dtype == np.float32 and proba.min() >= 0


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([(3, 5)], [0, 1, 2, 3, 4, 3, 6, 5]),  # the last takes the free number
        ([(3, 7)], [0, 1, 2, 3, 4, 5, 6, 3]),
        ([(5, 0, 7)], [0, 1, 2, 3, 4, 0, 5, 0]),
        ([(1, 2), (6, 7)], [0, 1, 1, 3, 4, 5, 2, 2]),
        ([range(8)], [0] * 8),
    ],
)
def test_few_numbers_change_when_clusters_merge(groups, expected):
    assert merged_numbers(8, groups).tolist() == expected


def test_the_last_cluster_takes_the_number_that_becomes_free():
    assert numbers_without(5, 1).tolist() == [0, -1, 2, 3, 1]
    assert numbers_without(5, 4).tolist() == [0, 1, 2, 3, -1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**20), st.permutations(range(6)), st.integers(1, 4))
def test_merged_labels_are_unions_and_columns_add_up(seed, order, n_groups):
    p, labels = rows(seed)
    groups = [tuple(order[at::n_groups]) for at in range(n_groups)]
    numbers = merged_numbers(6, [g for g in groups if len(g) > 1])
    proba, merged = merge_columns(p, labels, numbers)
    check(proba, merged)
    np.testing.assert_array_equal(merged, numbers[labels])
    sums = np.stack([p[:, numbers == c].sum(axis=1) for c in range(numbers.max() + 1)], axis=1)
    same = sums.argmax(axis=1) == merged
    np.testing.assert_allclose(proba[same], sums[same], atol=1e-6)
    # Never less sure than before.
    own = np.arange(len(p))
    assert (proba[own, merged] >= p[own, labels] - 1e-6).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 5), st.integers(2, 4))
def test_parts_of_a_split_stay_inside_their_cluster(seed, cluster, n_parts):
    p, labels = rows(seed)
    q = np.random.default_rng(seed).dirichlet(np.ones(n_parts), len(p)).astype(np.float32)
    proba, split = split_columns(p, labels, cluster, q)
    check(proba, split)
    inside = labels == cluster
    np.testing.assert_array_equal(split[~inside], labels[~inside])
    part = np.where(split == cluster, 0, split - 5)
    np.testing.assert_array_equal(part[inside], q.argmax(axis=1)[inside])
    back, again = merge_columns(proba, split, np.array([*range(6), *[cluster] * (n_parts - 1)]))
    np.testing.assert_array_equal(again, labels)
    raw = np.concatenate([np.delete(p, cluster, axis=1), p[:, [cluster]] * q], axis=1)
    untouched = raw.max(axis=1) == proba[np.arange(len(p)), split]
    np.testing.assert_allclose(back[untouched], p[untouched], atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 5))
def test_rows_of_a_dissolved_cluster_go_to_the_next_best(seed, cluster):
    p, labels = rows(seed)
    p[2] = np.eye(6)[cluster]
    labels = p.argmax(axis=1)
    spill = np.array([0.1, 0.2, 0.5, 0.1, 0.1])
    proba, left = drop_column(p, labels, cluster, spill)
    check(proba, left)
    numbers = numbers_without(6, cluster)
    others = labels != cluster
    np.testing.assert_array_equal(left[others], numbers[labels[others]])
    np.testing.assert_allclose(proba[2], spill, atol=1e-6)
    rest = np.delete(p, cluster, axis=1).max(axis=1)
    kept = np.where(numbers >= 0)[0]
    for row in np.flatnonzero((labels == cluster) & (rest > 1e-6)):
        assert p[row, kept[numbers[kept] == left[row]][0]] == rest[row]


def test_rows_of_no_cluster_stay_so_and_settled_rows_keep_their_probability():
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.1, 0.45, 0.45]], np.float32)
    proba, labels = merge_columns(p, np.array([0, -1, 1]), np.array([0, 1, 1]))
    assert labels.tolist() == [0, -1, 1]
    np.testing.assert_allclose(proba, [[0.5, 0.5], [0.2, 0.8], [0.1, 0.9]], atol=1e-6)
    proba, labels = settle(p.copy(), np.array([0, 2, 0]))
    np.testing.assert_array_equal(proba[:2], p[:2])
    assert proba[2].argmax() == 0 and proba[2].sum() == pytest.approx(1)
    assert proba[2, 0] == pytest.approx(1 / 3, abs=1e-3)  # below it nothing can be the largest
