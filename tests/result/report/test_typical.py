"""Rows that stand for a cluster cover it, and are no eight copies of one."""

import dataclasses

import numpy as np

import fmcluster as fmc
from fmcluster.result.report.typical import chooser, cover


def test_the_first_is_the_medoid_and_copies_add_nothing():
    similarity = np.array([[1, 1, 0.5, 0], [1, 1, 0.5, 0], [0.5, 0.5, 1, 0], [0, 0, 0, 1]], float)
    chosen = cover(similarity, 4)
    assert chosen.tolist() == [0, 3, 2], "column 1 is column 0 again"


def grouped(sizes, *, spread=0.02):
    """One cluster of several groups of all but the same rows."""
    rng = np.random.default_rng(0)
    base = np.zeros(16)
    base[0] = 2
    parts = [
        base + np.eye(16)[1 + g] + spread * rng.normal(size=(n, 16)) for g, n in enumerate(sizes)
    ]
    other = -base + spread * rng.normal(size=(40, 16))
    X = np.concatenate([*parts, other]).astype(np.float32)
    group = np.repeat(np.arange(len(sizes) + 1), [*sizes, 40])
    return fmc.cluster(X, n_clusters=2, head="kmeans", calibrate=False), group


def test_every_group_of_a_cluster_is_among_its_rows():
    result, group = grouped([60, 25, 15])
    rows = np.flatnonzero(result.labels == result.labels[0])
    rows = rows[np.argsort(-result.confidence[rows], kind="stable")]
    sure = rows[: len(rows) // 2]
    chosen = chooser(result)(rows, 6)
    assert set(group[chosen]) == set(group[sure]), "all that the confident half has"
    assert len(set(group[rows[:6]])) <= len(set(group[chosen]))
    assert np.isin(chosen, rows).all() and len(set(chosen)) == len(chosen) <= 6


def test_without_embeddings_neighbors_are_passed_over():
    result, _ = grouped([60, 25, 15])
    rows = np.flatnonzero(result.labels == result.labels[0])
    loaded = dataclasses.replace(result, embeddings=None)
    chosen = chooser(loaded)(rows, 2)
    near = result.graph.indices
    for at, row in enumerate(chosen[1:], 1):
        assert not np.isin(chosen[:at], near[row]).any()
    bare = dataclasses.replace(loaded, graph=None)
    assert chooser(bare)(rows, 3).tolist() == rows[:3].tolist()


def test_a_cluster_of_one_row_stands_for_itself():
    result, _ = grouped([60, 25, 15])
    assert chooser(result)(np.array([5]), 8).tolist() == [5]
    assert chooser(result)(np.array([], np.int64), 8).tolist() == []
