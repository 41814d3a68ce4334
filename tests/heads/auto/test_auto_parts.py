"""The parts of the default head: refinement, starts, votes and the student, held to oracles."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from fmcluster.functional.assignment import align_labels
from fmcluster.functional.metrics import evaluate
from fmcluster.functional.softmax import softmax
from fmcluster.heads.auto import student
from fmcluster.heads.auto.agreement import ROWS_TO_BE_FOUND, discount, split_agreement
from fmcluster.heads.auto.starts import FAMILIES, FINENESS, starts
from fmcluster.heads.auto.unanswered import student_of
from fmcluster.heads.auto.vote import TEMPERATURE, balance_evidence, support, vote
from fmcluster.partition import refine as refining
from fmcluster.partition.estimates.sizes import most_correct, shares_by_rank
from fmcluster.partition.scores import Candidate, assortativity_of, modularity_of, score_candidate
from fmcluster.utils import distributed
from fmcluster.vectors.graph import KNNGraph


def field_of(x: np.ndarray) -> refining.RefinementContext:
    return refining.RefinementContext(x, KNNGraph.build(x, k=min(10, len(x) - 1)))


# -- refinement ---------------------------------------------------------------------------------


def test_smoothing_rows_sum_to_one_and_near_neighbors_weigh_more(even):
    S = field_of(even.x).smoothing
    np.testing.assert_allclose(S.sum(axis=1), 1, atol=1e-5)
    first = S.data.reshape(len(even.x), 10)
    assert (first[:, 0] >= first[:, -1]).all()


def test_diffused_rows_are_averaged_with_their_neighbors(tailed):
    field = field_of(tailed.x)
    S, rows = field.smoothing.toarray(), tailed.x
    for _ in range(2):
        rows = 0.5 * rows + 0.5 * S @ rows
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    diffused = field.diffused[2]
    np.testing.assert_allclose(diffused.rows, rows, atol=1e-5)
    assert field.diffused[0] is field
    assert diffused.graph is field.graph and diffused.smoothing is field.smoothing
    own = np.arange(6)[:, None] == tailed.y
    spread = [
        sum(x[mask].var(axis=0).sum() for mask in own) / x.var(axis=0).sum()
        for x in (tailed.x, diffused.rows)
    ]
    assert spread[1] < spread[0] / 2, "clusters come apart"


def test_vmf_weights_are_mean_directions(even):
    field = field_of(even.x)
    Q = refining.one_hot(even.y, 5)
    weights, offsets, z = refining.linear_classifier(field, Q, "vmf")
    means = np.stack([even.x[even.y == c].mean(axis=0) for c in range(5)], axis=1)
    cosine = (weights * means).sum(0) / np.linalg.norm(weights, axis=0)
    np.testing.assert_allclose(cosine, np.linalg.norm(means, axis=0), rtol=1e-4)
    assert not offsets.any()
    np.testing.assert_allclose(z, even.x @ weights, atol=1e-5)


def test_discriminant_is_scikit_learns(even):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    field = field_of(even.x)
    weights, offsets, _ = refining.linear_classifier(field, refining.one_hot(even.y, 5), "lda")
    x = even.x.astype(np.float64)
    within = np.cov((x - np.stack([x[even.y == c].mean(0) for c in range(5)])[even.y]).T, bias=True)
    shrunk = 0.2 * within + 0.8 * np.trace(within) / 24 * np.eye(24)
    oracle = LinearDiscriminantAnalysis(
        solver="lsqr", covariance_estimator=_Fixed(shrunk), priors=np.full(5, 0.2)
    ).fit(x, even.y)
    ours, theirs = x @ weights + offsets, oracle.decision_function(x)
    ours, theirs = (z - z.mean(axis=1, keepdims=True) for z in (ours, theirs))
    scale = (ours * theirs).sum() / (theirs**2).sum()
    np.testing.assert_allclose(ours, scale * theirs, atol=1e-3)


class _Fixed:
    def __init__(self, covariance: np.ndarray) -> None:
        self.covariance_ = covariance

    def fit(self, X: np.ndarray) -> _Fixed:
        return self


def test_slope_is_that_of_the_likeliest_softmax():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 5)).astype(np.float32)
    target = softmax(3 * z, dtype=np.float32)
    assert refining.fit_slope(z, target) == pytest.approx(3, rel=0.15)


def test_information_share_is_one_for_sure_and_zero_for_independent_labels():
    Q = refining.one_hot(np.arange(400) % 4, 4)
    mass = np.full(400, 1 / 400, np.float32)
    alike = csr_matrix((Q @ Q.T) / 100)
    assert refining.information_share(Q, alike, mass) == pytest.approx(1, abs=1e-6)
    all_rows = np.full((400, 400), 1 / 400, np.float32)
    assert refining.information_share(Q, all_rows, mass) == pytest.approx(0, abs=1e-6)


def test_of_many_clusters_the_largest_shares_tell_the_information(monkeypatch):
    rng = np.random.default_rng(0)
    n, k = 3_000, 60
    y = rng.choice(k, n, p=rng.dirichlet(np.ones(k)))
    Q = softmax(5 * refining.one_hot(y, k) + rng.normal(size=(n, k)), dtype=np.float32)
    near = np.where(rng.random((n, 8)) < 0.7, y[:, None], rng.integers(0, k, (n, 8)))
    first = np.array([np.flatnonzero(y == c)[0] if (y == c).any() else 0 for c in range(k)])
    S = csr_matrix((np.full(8 * n, 1 / 8, np.float32), first[near].ravel(), range(0, 8 * n + 1, 8)))
    S.resize((n, n))
    mass = np.full(n, 1 / n, np.float32)
    exact = refining.information_share(Q, S, mass)
    monkeypatch.setattr(refining, "DENSE_CLUSTERS", 10)
    assert refining.information_share(Q, S, mass) == pytest.approx(exact, abs=0.05)
    assert 0.1 < exact < 0.9


def test_slope_found_by_halving_is_the_best_of_all(monkeypatch):
    rng = np.random.default_rng(1)
    for scale in (0.02, 0.3, 1, 4, 50):
        z = rng.normal(size=(300, 7)).astype(np.float32)
        target = softmax(scale * z + rng.normal(size=(300, 7)), dtype=np.float32)
        losses = [-(target * np.log(softmax(b * z) + 1e-30)).sum() for b in refining.SLOPES]
        assert refining.fit_slope(z, target) == refining.SLOPES[int(np.argmin(losses))]


def test_columns_are_scaled_to_the_asked_shares():
    rng = np.random.default_rng(0)
    Q = rng.dirichlet(np.ones(3), size=500).astype(np.float32)
    shares = np.array([0.6, 0.3, 0.1])
    scaled = refining.to_shares(Q, shares, n_iter=100)
    np.testing.assert_allclose(scaled.mean(axis=0), shares, atol=1e-4)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-5)


def test_shares_go_by_rank():
    given = shares_by_rank(np.array([0.1, 0.6, 0.3]), np.array([5, 1, 9]))
    np.testing.assert_allclose(given, [0.3, 0.1, 0.6])


@pytest.mark.parametrize("model", ["vmf", "lda"])
def test_refinement_mends_a_damaged_partition(tailed, model):
    rng = np.random.default_rng(0)
    damaged = tailed.y.copy()
    wrong = rng.random(len(damaged)) < 0.3
    damaged[wrong] = rng.integers(0, 6, wrong.sum())
    Q = refining.refine(field_of(tailed.x), damaged, 6, model=model)
    np.testing.assert_allclose(Q.sum(axis=1), 1, atol=1e-5)
    assert evaluate(tailed.y, Q.argmax(axis=1))["acc"] > 0.86


def test_refinement_keeps_the_sizes_it_is_given(even):
    shares = np.full(5, 0.2)
    Q = refining.refine(field_of(even.x), even.y, 5, model="lda", shares=shares)
    np.testing.assert_allclose(Q.mean(axis=0), shares, atol=0.01)


# -- starts, votes, student ---------------------------------------------------------------------


def test_every_family_starts_with_k_clusters(even):
    found = list(starts(field_of(even.x), 5, seed=0))
    assert [family for family, _, _ in found].count("average") == len(FINENESS)
    assert {family for family, _, _ in found} == set(FAMILIES)
    assert len({name for _, name, _ in found}) == len(refining.DIFFUSION) + 3 * len(FINENESS)
    for _, _, labels in found:
        assert labels.shape == (600,)
        np.testing.assert_array_equal(np.unique(labels), np.arange(5))


def test_a_family_is_drawn_again_by_itself_and_otherwise(blobs):
    data = blobs(n=400, k=4, d=8, spread=0.6, seed=2)
    field = field_of(data.x)
    first, again = (
        [labels for _, _, labels in starts(field, 4, seed=0, families=("ward",), draw=draw)]
        for draw in (0, 1)
    )
    # Of the second draw one more is made, without a least size.
    assert len(first) == len(FINENESS) and len(again) == len(FINENESS) + 1
    assert any((a != b).any() for a, b in zip(first, again, strict=True))


def test_matching_renames_as_the_hungarian_method_would():
    rng = np.random.default_rng(0)
    reference, labels = rng.integers(0, 6, 500), rng.integers(0, 6, 500)
    table = np.zeros((6, 6))
    np.add.at(table, (labels, reference), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    agreed = (align_labels(reference, labels, n_clusters=6) == reference).sum()
    assert agreed == table[rows, columns].sum()
    aligned = align_labels(reference, (reference + 2) % 6, n_clusters=6)
    np.testing.assert_array_equal(aligned, reference)


def test_vote_weighs_by_score_and_ignores_names():
    labels = np.repeat(np.arange(3), 10)
    odd = labels.copy()
    odd[:5] = 1
    best = Candidate("a", labels, 0.5, 0.7, 0.3)
    same = Candidate("b", (labels + 1) % 3, 0.5, 0.7, 0.3)
    worse = Candidate("c", odd, 0.5, 0.7, 0.3 - TEMPERATURE)
    three = [best, same, worse]
    V = vote([c.labels for c in three], support(three, [], np.ones(30)), 3)
    np.testing.assert_allclose(V[5:, :].max(axis=1), 1)
    np.testing.assert_allclose(V[0], [2 / (2 + np.exp(-1)), np.exp(-1) / (2 + np.exp(-1)), 0])


def test_balance_is_likely_where_it_costs_little_and_is_estimated():
    labels = np.arange(90) % 3
    near, far = np.array([0.34, 0.33, 0.33]), np.array([0.7, 0.2, 0.1])
    free = [Candidate(name, labels, 0.8, 0.9, s) for name, s in (("a", 0.3), ("b", 0.1))]
    likely = []
    for cost in (0.0, 0.06, 0.09, 0.2):
        held = [Candidate("c", labels, 0.8 - cost, 0.9, 0.3, balanced=True)]
        likely.append(balance_evidence([*free, *held], near))
        assert balance_evidence([*free, *held], far) < 1e-3
    assert likely == sorted(likely, reverse=True)
    assert likely[0] > 0.9 and 0.5 < likely[1] and likely[2] < 0.5 and likely[3] < 1e-3
    assert balance_evidence(free, near) == 0


def test_support_is_the_silhouette_less_how_far_the_sizes_are_from_the_likeliest():
    labels = np.repeat([0, 1], [80, 20])
    even = Candidate("a", np.arange(100) % 2, 0.5, 0.5, 0.4, balanced=True)
    skewed = Candidate("b", labels, 0.5, 0.5, 0.4)
    mass = np.full(100, 0.01)
    sizes = np.array([0.8, 0.2])
    found = support([even, skewed], [(1.0, sizes)], mass)
    np.testing.assert_allclose(found, [0.4 - 0.3, 0.4], atol=1e-6)
    both = support([even, skewed], [(0.5, sizes), (0.5, np.array([0.5, 0.5]))], mass)
    assert both[0] == pytest.approx(both[1]) and both[0] == pytest.approx(0.4 - 0.0688, abs=1e-2)


def test_halves_agree_where_there_are_clusters(blobs):
    clear, none = blobs(n=600, k=5, d=12, spread=0.3, seed=1), blobs(n=600, k=1, d=12, seed=1)
    assert split_agreement(field_of(clear.x), 5, seed=0) > 0.97
    assert split_agreement(field_of(none.x), 5, seed=0) < 0.8
    assert split_agreement(field_of(clear.x[:12]), 5, seed=0) == 1.0


def test_halves_of_clusters_of_few_rows_say_less():
    assert discount(0.5, 10_000) == pytest.approx(0.5**0.75, abs=1e-4)
    assert discount(0.5, ROWS_TO_BE_FOUND) == pytest.approx(0.5**0.375)
    assert discount(0.5, 2) > 0.98
    assert discount(1.0, 100) == 1


def test_score_is_networkx_free_modularity(even):
    field = field_of(even.x)
    found = score_candidate(field, even.y, 5, "truth")
    edges = np.zeros((5, 5))
    np.add.at(edges, (np.repeat(even.y, 10), even.y[field.graph.indices].ravel()), 1)
    edges = (edges + edges.T) / (2 * edges.sum())
    chance = (edges.sum(1) ** 2).sum()
    assert found.modularity == pytest.approx(np.trace(edges) - chance)
    assert found.assortativity == pytest.approx((np.trace(edges) - chance) / (1 - chance))
    assert found.score == found.modularity + found.assortativity / 2 + found.silhouette


def test_assortativity_does_not_rise_with_even_sizes():
    even, uneven = np.diag([50.0, 50.0]), np.diag([98.0, 2.0])
    assert assortativity_of(even) == assortativity_of(uneven) == 1
    assert modularity_of(even) > modularity_of(uneven)
    assert assortativity_of(np.array([[7.0]])) == 0
    assert assortativity_of(np.full((3, 3), 1.0)) == pytest.approx(0)


def test_silhouette_leaves_a_row_out_of_its_own_centroid(blobs):
    data = blobs(n=60, k=3, d=6, spread=0.4)
    found = score_candidate(field_of(data.x), data.y, 3, "truth").silhouette
    values = []
    for i, row in enumerate(data.x.astype(np.float64)):
        rest = [data.x[(data.y == c) & (np.arange(60) != i)].sum(axis=0) for c in range(3)]
        cosine = np.array([row @ r / np.linalg.norm(r) for r in rest])
        own, other = cosine[data.y[i]], np.delete(cosine, data.y[i]).max()
        values.append((own - other) / (1 - min(own, other)))
    assert found == pytest.approx(np.mean(values), abs=1e-4)


def test_student_repeats_what_it_was_taught(even):
    field = field_of(even.x)
    V = 0.9 * refining.one_hot(even.y, 5) + 0.02
    taught = student.teach(field, V, seed=0)
    proba = taught.proba(even.x)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (proba.argmax(axis=1) == even.y).mean() > 0.98


def test_confidence_falls_where_neighbors_disagree(blobs):
    data = blobs(n=600, k=3, d=8, spread=0.55, seed=5)
    field = field_of(data.x)
    taught = student.teach(field, refining.one_hot(data.y, 3), seed=0)
    sure = taught.proba(data.x)
    assert 0.3 < taught.reliability.min() < taught.reliability.max() <= 1
    taught.reliability = np.ones_like(taught.reliability)
    bold = taught.proba(data.x)
    np.testing.assert_array_equal(sure.argmax(1), bold.argmax(1))
    assert sure.max(1).mean() < bold.max(1).mean()


def test_no_more_is_right_than_the_sizes_allow():
    assert most_correct(np.array([0.2, 0.8]), np.array([0.8, 0.2])) == pytest.approx(1)
    assert most_correct(np.full(4, 0.25), np.array([0.7, 0.1, 0.1, 0.1])) == pytest.approx(0.55)
    rng = np.random.default_rng(0)
    y, labels = rng.choice(4, 500, p=[0.7, 0.2, 0.05, 0.05]), rng.integers(0, 4, 500)
    shares = [np.bincount(one, minlength=4) / 500 for one in (labels, y)]
    assert evaluate(y, labels)["acc"] <= most_correct(*shares) + 1e-9


@pytest.mark.parametrize("expected", [0.6, 0.97])
def test_mean_confidence_is_brought_to_what_is_expected(even, expected):
    field = field_of(even.x)
    taught = student.teach(field, refining.one_hot(even.y, 5), seed=0)
    before = taught.proba(even.x)
    taught.level(before, expected, field.mass)
    after = taught.proba(even.x)
    assert after.max(axis=1).mean() == pytest.approx(expected, abs=0.02)  # none is below 1/k
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    order = np.argsort(before.max(axis=1))
    assert (np.diff(after.max(axis=1)[order]) > -1e-6).all()


@pytest.mark.parametrize(("evidence", "least"), [(1.0, 0.95), (0.5, 0.475), (0.0, 0.0)])
def test_even_sizes_hold_the_level_near_what_the_student_says_itself(even, evidence, least):
    field = field_of(even.x)
    V = refining.one_hot(even.y, 5)
    own = student.teach(field, V, seed=0).proba(even.x).max(axis=1).mean()
    kept = SimpleNamespace(
        votes=V, node=np.arange(len(V)), even=evidence, sizes=np.full(5, 1 / 5), proba=None
    )
    taught, _ = student_of(field, kept, V, 0.4, seed=0)
    after = taught.proba(even.x).max(axis=1).mean()
    assert after == pytest.approx(max(0.4, least * own), abs=0.02)


def test_a_cluster_that_nothing_predicts_is_given_its_likeliest_row(even):
    field = field_of(even.x)
    V = refining.one_hot(even.y, 6)
    V[7] = [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]
    taught = student.teach(field, V, seed=0)
    labels = taught.proba(even.x).argmax(axis=1)
    assert len(np.unique(labels)) == 6
    assert labels[7] == 5


def test_a_device_gives_the_student_s_scores(even, monkeypatch):
    taught = student.teach(field_of(even.x), refining.one_hot(even.y, 5), seed=0)
    scores, trust = taught.scores(even.x)
    monkeypatch.setattr(distributed, "gpu", lambda: torch.device("cpu"))
    np.testing.assert_array_equal(taught.scores(even.x)[0], scores)  # too little work for it
    monkeypatch.setattr(student, "GPU_WORK", 1)
    monkeypatch.setattr(student, "GPU_ROWS", 250)
    there = taught.scores(even.x)
    assert there[0] is not scores and there[0].dtype == np.float64
    np.testing.assert_allclose(there[0], scores, atol=1e-12)
    np.testing.assert_allclose(there[1], trust, atol=1e-12)


def test_of_many_clusters_a_student_keeps_the_largest_votes(monkeypatch, even):
    """Nothing of note is lost, whether votes are dense or sparse."""
    field = field_of(even.x)
    V = softmax(4 * refining.one_hot(even.y, 5) + np.random.default_rng(0).random((len(even.y), 5)))
    taught = student.teach(field, V.astype(np.float32), seed=0)
    exact = taught.proba(field.rows)
    monkeypatch.setattr(student, "DENSE_CLUSTERS", 4)
    monkeypatch.setattr(refining, "LARGEST_SHARES", 5)
    np.testing.assert_allclose(replace(taught).proba(field.rows), exact, atol=1e-12)
    monkeypatch.setattr(refining, "LARGEST_SHARES", 4)
    few = replace(taught).proba(field.rows)
    np.testing.assert_array_equal(few.argmax(axis=1), exact.argmax(axis=1))
    np.testing.assert_allclose(few.max(axis=1), exact.max(axis=1), atol=0.05)
