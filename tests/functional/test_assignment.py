"""Hungarian matching against brute force, and what a relabelling must not change."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics.cluster import contingency_matrix

from fmcluster.functional.assignment import align_labels, contingency, hungarian

small_tables = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 30))
)


def brute_force(table: np.ndarray) -> int:
    if table.shape[0] > table.shape[1]:
        table = table.T
    rows = np.arange(len(table))
    return max(table[rows, list(p)].sum() for p in permutations(range(table.shape[1]), len(table)))


@settings(max_examples=60, deadline=None)
@given(small_tables)
def test_hungarian_keeps_as_much_as_brute_force(table):
    match = hungarian(table)
    matched = match[match >= 0]
    assert table[np.flatnonzero(match >= 0), matched].sum() == brute_force(table)
    assert len(np.unique(matched)) == len(matched) == min(table.shape)


def test_contingency_equals_sklearn():
    rng = np.random.default_rng(0)
    y, labels = rng.integers(0, 7, 300), rng.integers(3, 9, 300)
    pairs = contingency(y, labels)
    np.testing.assert_array_equal(pairs.table, contingency_matrix(y, labels).T)
    np.testing.assert_array_equal(pairs.clusters[pairs.cluster_index], labels)
    np.testing.assert_array_equal(pairs.classes[pairs.class_index], y)


def test_contingency_takes_strings_and_leaves_unassigned_rows_out():
    pairs = contingency(["b", "a", "b", "a"], [4, 4, -1, 9])
    assert pairs.classes.tolist() == ["a", "b"]
    assert pairs.clusters.tolist() == [4, 9]
    assert pairs.table.tolist() == [[1, 1], [1, 0]]
    assert pairs.cluster_index.tolist() == [0, 0, -1, 1]


def test_contingency_keeps_a_row_for_empty_clusters_when_asked():
    pairs = contingency([0, 1], [2, 2], n_clusters=4)
    assert pairs.table.sum(axis=1).tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize(
    ("y", "labels", "n_clusters", "message"),
    [
        ([0, 1], [0, 1, 1], None, "2 entries for 3 rows"),
        ([], [], None, "empty"),
        ([0, 1], [0, 4], 3, "0 to 4, expected 0..2"),
        ([0, 1], ["a", "b"], 2, "do not name"),
        ([[0, 1]], [0, 1], None, "1-D"),
    ],
)
def test_contingency_says_what_is_wrong(y, labels, n_clusters, message):
    with pytest.raises(ValueError, match=message):
        contingency(np.array(y), np.array(labels), n_clusters=n_clusters)


def test_hungarian_refuses_a_vector():
    with pytest.raises(ValueError, match="2-D"):
        hungarian([1, 2, 3])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_align_undoes_a_renaming(k, seed):
    rng = np.random.default_rng(seed)
    reference = np.append(np.arange(k), rng.integers(0, k, 50))
    renamed = rng.permutation(k)[reference]
    np.testing.assert_array_equal(align_labels(reference, renamed), reference)


def test_align_leaves_surplus_clusters_and_unassigned_rows_unnamed():
    reference = np.array([0, 0, 0, 1, 1, 1])
    finer = np.array([7, 7, 2, 5, 5, -1])
    assert align_labels(reference, finer, n_clusters=2).tolist() == [0, 0, -1, 1, 1, -1]


def test_align_to_names_that_are_absent_from_the_sample():
    assert align_labels([3, 3, 5], [0, 0, 1], n_clusters=8).tolist() == [3, 3, 5]
