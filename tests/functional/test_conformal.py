"""Conformal p-values are ranks that mean what alpha says."""

import numpy as np

from fmcluster.functional.conformal import own_p_values, p_values


def test_values_by_hand():
    np.testing.assert_allclose(p_values([5, 0, 2], [1, 2, 3]), [1 / 4, 1, 3 / 4])
    np.testing.assert_allclose(own_p_values([1, 3, 2, 2]), [1, 1 / 4, 3 / 4, 3 / 4])


def test_ties_speak_against_strangeness():
    np.testing.assert_array_equal(own_p_values(np.ones(9)), np.ones(9))
    np.testing.assert_array_equal(p_values(np.ones(3), np.ones(9)), np.ones(3))


def test_of_exchangeable_scores_alpha_are_below_alpha():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        scores = rng.normal(size=150)
        shares.append((p_values(scores[100:], scores[:100]) <= 0.1).mean())
    assert abs(np.mean(shares) - 0.1) < 0.01


def test_without_reference_nothing_is_strange():
    np.testing.assert_array_equal(p_values([1.0, 9.0], []), [1, 1])
    assert own_p_values([]).shape == (0,)
