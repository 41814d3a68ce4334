"""False discoveries are held at their rate, tails go on falling, excess is counted exactly."""

import numpy as np
import pytest
from scipy.stats import betabinom

from fmcluster.functional.conformal import discoveries, excess_share, p_values, tail_p_values


def test_discoveries_are_those_of_benjamini_and_hochberg():
    p = [0.01, 0.02, 0.03, 0.04, 0.5]  # 0.04 is under 0.05 * 4 / 5
    assert discoveries(p, 0.05).tolist() == [True, True, True, True, False]
    assert discoveries([0.02, 0.5, 0.03, 0.9], 0.05).tolist() == [False] * 4
    assert discoveries([0.04], 0.05).tolist() == [True]
    assert discoveries([], 0.05).shape == (0,)
    assert discoveries([0.0, 1.0, 0.0], 0.1).tolist() == [True, False, True]


@pytest.mark.parametrize("alpha", [0, 1.1, -0.1, float("nan")])
def test_a_rate_is_between_zero_and_one(alpha):
    with pytest.raises(ValueError, match="alpha"):
        discoveries([0.1], alpha)
    with pytest.raises(ValueError, match=r"p-values lie in \[0, 1\]"):
        discoveries([0.1, 1.5], 0.1)


def test_of_nothing_anything_is_found_as_rarely_as_asked():
    generator = np.random.default_rng(0)
    any_found = [discoveries(generator.random(50), 0.1).any() for _ in range(2000)]
    assert 0.08 < np.mean(any_found) < 0.12


def test_of_what_is_found_few_are_chance():
    generator = np.random.default_rng(0)
    false = []
    for _ in range(300):
        reference = generator.normal(size=400)
        scores = np.concatenate([generator.normal(size=80), generator.normal(5, 1, size=20)])
        found = discoveries(p_values(scores, reference), 0.1)
        false.append(found[:80].sum() / max(found.sum(), 1))
    assert 0.04 < np.mean(false) < 0.1


def test_tail_goes_on_where_the_rank_ends():
    reference = np.random.default_rng(0).exponential(size=200)
    scores = np.array([0.1, 1.0, reference.max(), reference.max() + 1, reference.max() + 20])
    plain, tail = p_values(scores, reference), tail_p_values(scores, reference)
    np.testing.assert_array_equal(tail[:3], plain[:3])
    assert plain[3] == plain[4] == 1 / 201
    assert tail[3] == pytest.approx(np.exp(-1) / 201, rel=0.5) and tail[4] < 1e-8
    one_far = np.concatenate([np.zeros(49), [30.0]])
    assert not discoveries(p_values(one_far, reference), 0.05).any()
    assert np.flatnonzero(discoveries(tail_p_values(one_far, reference), 0.05)).tolist() == [49]


def test_tail_of_few_or_equal_scores_is_the_rank():
    for reference in ([1.0, 2.0, 3.0], np.ones(100)):
        scores = [0.5, 2.5, 99.0]
        np.testing.assert_array_equal(tail_p_values(scores, reference), p_values(scores, reference))


def test_excess_is_none_under_chance_and_the_share_beyond_it_else():
    n, m, alpha = 199, 400, 0.05
    level = 10 / 200
    p = np.concatenate([np.full(100, 0.005), np.linspace(0.06, 1, 300)])
    share, p_value = excess_share(p, n, alpha)
    assert share == pytest.approx((0.25 - level) / (1 - level))
    assert p_value == pytest.approx(betabinom.sf(99, m, 10, 190)) and p_value < 1e-6
    assert excess_share(np.linspace(0.06, 1, 50), n, alpha) == (0.0, 1.0)
    assert excess_share([0.05] * 5, 10, alpha) == (0.0, 1.0)  # no rank as small as alpha


def test_excess_raises_false_alarms_as_rarely_as_it_says():
    generator = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        scores = generator.normal(size=300)
        found.append(excess_share(p_values(scores[200:], scores[:200]), 200, 0.05)[1])
    assert 0.01 < np.mean(np.array(found) < 0.05) <= 0.055
