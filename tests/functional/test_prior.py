"""Cluster-size priors: EM, profiles, imbalance, and the published long-tail tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcluster.functional.prior import (
    effective_clusters,
    em_prior,
    fit_profile,
    long_tail_counts,
    smoothed_shares,
)


def power_law(k, exponent=1.0):
    share = np.arange(1, k + 1) ** -float(exponent)
    return share / share.sum()


def bayes_rows(prior, n, *, under, separation=2.0, seed=0):
    """Draw rows from Gaussians under `prior`; return posteriors that assume the shares `under`."""
    rng = np.random.default_rng(seed)
    k = len(prior)
    y = rng.choice(k, n, p=prior)
    x = separation * np.eye(k)[y] + rng.normal(size=(n, k))
    logits = separation * x + np.log(under)
    logits -= logits.max(1, keepdims=True)
    proba = np.exp(logits)
    return proba / proba.sum(1, keepdims=True), np.bincount(y, minlength=k) / n


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_em_recovers_a_planted_power_law(exponent):
    k = 10
    prior, uniform = power_law(k, exponent), np.full(k, 1 / k)
    proba, _ = bayes_rows(prior, 20_000, under=uniform, separation=3.0)
    found = em_prior(proba, source_prior=uniform)
    assert found.status == "converged"
    assert np.abs(found.prior - prior).sum() < 0.05
    # Reading the mean of the uncorrected probabilities is far from it: EM did the work.
    assert np.abs(proba.mean(0) - prior).sum() > np.abs(found.prior - prior).sum()


def test_calibrated_probabilities_are_taken_at_their_word():
    prior = power_law(8)
    proba, _ = bayes_rows(prior, 20_000, under=prior)
    found = em_prior(proba)
    np.testing.assert_allclose(found.prior, proba.mean(0), atol=1e-9)
    assert np.abs(found.prior - prior).sum() < 0.05
    assert found.n_iter == 1


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 40), st.sampled_from([0.0, 1.0, 30.0])
)
def test_em_never_falls_and_stays_on_the_simplex(seed, k, n, concentration):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(k, 0.3), size=n)
    source = rng.dirichlet(np.ones(k)) * 0.9 + 0.1 / k
    found = em_prior(proba, source_prior=source, concentration=concentration, max_iter=200)
    assert (np.diff(found.objective) >= -1e-12).all()
    assert found.prior.sum() == pytest.approx(1.0)
    assert (found.prior >= 0).all()
    if concentration:
        assert (found.prior >= concentration / k / (n + concentration) - 1e-12).all()


def test_concentration_pulls_towards_even_sizes():
    proba, _ = bayes_rows(power_law(5), 500, under=power_law(5))
    spread = [em_prior(proba, concentration=c).prior.std() for c in (0.0, 50.0, 500.0, 1e6)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 1e-3


def test_max_iter_is_in_the_status():
    proba, _ = bayes_rows(power_law(5), 500, under=np.full(5, 0.2))
    found = em_prior(proba, source_prior=np.full(5, 0.2), max_iter=2, tol=1e-15)
    assert (found.status, found.n_iter) == ("max_iter", 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_prior": [0.5, 0.6]}, "sums to 1.1"),
        ({"source_prior": [1.0, 0.0]}, "entry 1 is 0"),
        ({"source_prior": [1.0]}, r"shape \(1,\), expected \(2,\)"),
        ({"concentration": -1.0}, "concentration=-1.0"),
    ],
)
def test_em_quotes_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        em_prior([[0.5, 0.5], [0.2, 0.8]], **options)
    with pytest.raises(ValueError, match="row 1 sums to 1.3"):
        em_prior([[0.5, 0.5], [0.5, 0.8]])


def test_smoothed_shares():
    np.testing.assert_allclose(smoothed_shares([3, 1]), [0.75, 0.25])
    np.testing.assert_allclose(smoothed_shares([4, 0], 4), [0.75, 0.25])
    with pytest.raises(ValueError, match="all zero"):
        smoothed_shares([0, 0])


def test_effective_clusters():
    assert effective_clusters(np.full(7, 1 / 7)) == pytest.approx(7)
    assert effective_clusters([1.0, 0.0]) == pytest.approx(1)
    assert 1 < effective_clusters(power_law(10)) < 10


@pytest.mark.parametrize("kind", ["exponential", "zipf"])
def test_profile_recovers_its_own_curve(kind):
    ranks = np.arange(20)
    sizes = 1000 * (np.exp(-0.2 * ranks) if kind == "exponential" else (ranks + 1.0) ** -1.3)
    rng = np.random.default_rng(0)
    fit = fit_profile(rng.permutation(sizes))
    assert fit.kind == kind
    assert fit.r2 == pytest.approx(1.0)
    assert fit.slope == pytest.approx(0.2 if kind == "exponential" else 1.3)
    assert fit.imbalance_ratio == pytest.approx(sizes.max() / sizes.min())
    np.testing.assert_allclose(fit.shares, sizes / sizes.sum())
    assert fit.total_variation == pytest.approx(0, abs=1e-12)


def test_profile_of_even_sizes_and_of_one_cluster():
    for sizes in ([5, 5, 5], [9]):
        fit = fit_profile(sizes)
        assert fit.imbalance_ratio == pytest.approx(1.0)
        assert fit.r2 == 1.0
    worse = fit_profile([100, 99, 98, 2, 1])
    assert 0 < worse.r2 < 1
    assert fit_profile([8, 0, 4], kind="zipf").imbalance_ratio > 2
    with pytest.raises(ValueError, match="choose one of"):
        fit_profile([1, 2], kind="linear")
    with pytest.raises(ValueError, match="not negative"):
        fit_profile([1, -2])


CIFAR_LT = {
    # classes, ratio: (rows of the largest class, total, the published table or its ends)
    (10, 100): (5000, 12406, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
    (10, 50): (5000, 13996, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]),
    (10, 10): (5000, 20431, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
    (100, 100): (500, 10847, None),
    (100, 50): (500, 12608, None),
    (100, 10): (500, 19573, None),
}


@pytest.mark.parametrize(("classes", "ratio"), CIFAR_LT)
def test_long_tail_counts_equal_the_published_tables(classes, ratio):
    n_max, total, table = CIFAR_LT[classes, ratio]
    counts = long_tail_counts(n_max, classes, ratio)
    assert counts.sum() == total
    assert (counts[0], counts[-1]) == (n_max, n_max // ratio)
    if table is not None:
        assert counts.tolist() == table


def test_pareto_counts():
    counts = long_tail_counts(1000, 50, 100, profile="pareto")
    exponential = long_tail_counts(1000, 50, 100)
    assert (counts[0], counts[-1]) == (1000, 10)
    assert (np.diff(counts) <= 0).all()
    assert counts[5] < exponential[5]
    assert fit_profile(counts).kind == "zipf"
    assert long_tail_counts(7, 1, 100).tolist() == [7]
    assert long_tail_counts(7, 3, 1).tolist() == [7, 7, 7]
    assert long_tail_counts(3, 3, 100).min() == 1
    with pytest.raises(ValueError, match=r"imbalance_ratio=0.5"):
        long_tail_counts(10, 3, 0.5)
    with pytest.raises(ValueError, match="profile='linear'"):
        long_tail_counts(10, 3, 10, profile="linear")
