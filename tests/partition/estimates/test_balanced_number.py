"""A number is taken only where even clusters of it come out of any start and cost nothing."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.partition.estimates.balanced_number import balanced_k
from fmcluster.partition.estimates.number import estimate_number
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows


def nested(sizes, *, subtopics=1, d=24, noise=0.1, seed=0):
    """Unit rows of topics, each of which may have close subtopics."""
    rng = np.random.default_rng(seed)
    topics = unit_rows(rng.normal(size=(len(sizes), d)))
    parts = []
    for topic, size in zip(topics, sizes, strict=True):
        centers = topic + 0.05 * rng.normal(size=(subtopics, d))
        at = rng.integers(0, subtopics, size)
        parts.append(centers[at] + noise * rng.normal(size=(size, d)))
    return unit_rows(np.concatenate(parts))


@pytest.mark.parametrize("k", [3, 6])
def test_even_topics_are_counted(k):
    rows = nested([120] * k)
    assert balanced_k(rows, 2 * k, k_range=(2, 20), seed=0) == k


def test_topics_are_preferred_to_their_subtopics():
    rows = nested([300] * 4, subtopics=6)
    found = estimate_number(rows, KNNGraph.build(rows, k=10), k_range=(2, 60))
    assert found.best == 4
    assert found.interval[0] <= 4 <= found.interval[1]


def test_uneven_topics_are_left_to_the_curve():
    rows = nested([400, 150, 60, 25, 10])
    assert balanced_k(rows, 5, k_range=(2, 20), seed=0) is None


def test_a_number_outside_the_range_is_never_taken():
    rows = nested([120] * 3)
    assert balanced_k(rows, 12, k_range=(10, 20), seed=0) is None
    assert balanced_k(rows, 30, k_range=(30, 60), seed=0) is None


def test_many_rows_are_sampled_and_the_answer_repeats():
    rows = nested([1500] * 3, d=150)
    assert balanced_k(rows, 9, k_range=(2, 6), seed=1) == 3
    assert balanced_k(rows, 9, k_range=(2, 6), seed=1) == 3


def test_clusters_that_stay_empty_do_not_count():
    rows = nested([40] * 12, d=32, noise=0.08, seed=12)
    assert balanced_k(rows, 12, k_range=(2, 20), seed=0) == 12


def test_two_clusters_of_uneven_labels_are_not_even():
    rows = nested([200, 88], noise=0.05)
    assert balanced_k(rows, 2, k_range=(2, 2), seed=0) is None
