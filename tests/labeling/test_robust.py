"""The classifier that survives wrong labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

import fmcluster
from fmcluster.labeling.robust import RECIPES, RobustClassifier, fit_robust, winner
from fmcluster.vectors.rows import unit_rows


@parametrize_with_checks([RobustClassifier()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def planted(blobs):
    x, y = blobs(n=2000, k=5, d=32, spread=0.25, seed=2)
    rng = np.random.default_rng(3)
    wrong = rng.random(1500) < 0.4
    given = np.where(wrong, (y[:1500] + rng.integers(1, 5, 1500)) % 5, y[:1500])
    return x[:1500], y[:1500], given, x[1500:], y[1500:]


def test_within_two_points_of_clean_training(planted):
    x, y, given, test, truth = planted
    clean = (LogisticRegression(C=10).fit(x, y).predict(test) == truth).mean()
    noisy = (LogisticRegression(C=10).fit(x, given).predict(test) == truth).mean()
    robust = fit_robust(x, given)
    accuracy = (robust.predict(test) == truth).mean()
    assert accuracy >= clean - 0.02
    assert accuracy >= noisy
    assert robust.noise_rate_ == pytest.approx((given != y).mean(), abs=0.05)
    right = robust.label_quality_[given == y].mean()
    assert right > robust.label_quality_[given != y].mean() + 0.6
    assert np.allclose(robust.transition_.sum(axis=1), 1)


def test_a_results_clusters_are_a_witness(planted):
    x, y, given, _, _ = planted
    result = fmcluster.cluster(x, n_clusters=5, head="kmeans", calibrate=None)
    alone = RobustClassifier(random_state=0).fit(x, given)
    guided = fit_robust(result, given)
    assert np.allclose(guided.label_quality_, fit_robust(result, given).label_quality_)
    # Clusters that are classes leave nothing in doubt.
    wrong = given != y
    assert guided.label_quality_[wrong].mean() < alone.label_quality_[wrong].mean()
    assert (guided.predict(x) == y).mean() >= (alone.predict(x) == y).mean()
    named = RobustClassifier(random_state=0).fit(x, given, clusters=[f"c{c}" for c in y])
    assert named.label_quality_[wrong].mean() < 0.05
    with pytest.raises(ValueError, match="clusters has 3 entries for 1500 rows"):
        RobustClassifier().fit(x, given, clusters=[0, 1, 2])
    with pytest.raises(ValueError, match="attach"):
        fit_robust(dataclasses.replace(result, embeddings=None), given)


def test_recipes_compete_on_given_labels_they_have_not_seen(planted):
    x, y, given, test, truth = planted
    robust = RobustClassifier(random_state=0).fit(x, given)
    assert set(robust.agreement_) == set(RECIPES)
    best = max(robust.agreement_.values())
    assert robust.agreement_[RECIPES[0]] > best - 0.05
    assert robust.trust_ in {recipe.trust for recipe in RECIPES}
    # Six labels in ten are right, and so no honest agreement can be far above.
    assert 0.5 < max(robust.agreement_.values()) < (given == y).mean() + 0.02


def test_the_first_recipe_is_left_only_for_one_that_is_clearly_ahead():
    first, other = RECIPES[0], RECIPES[1]
    hits = np.zeros((2, 100), bool)
    hits[0, :50] = True
    hits[1, 9:65] = True  # 15 gained, 9 lost: 6 ahead, standard error 4.9
    assert winner({first: hits[0], other: hits[1]}, first) == other
    hits[1, 63:65] = False  # 4 ahead, standard error 4.7
    assert winner({first: hits[0], other: hits[1]}, first) == first


def test_the_penalty_weighs_more_where_a_class_has_more_rows(planted):
    x, _, given, _, _ = planted
    whole = RobustClassifier(random_state=0, trust=0.5).fit(x, given)
    part = RobustClassifier(random_state=0, trust=0.5).fit(x[:375], given[:375])
    assert whole.C_ == pytest.approx(60 / np.sqrt(300))
    assert part.C_ == pytest.approx(2 * whole.C_)
    assert RobustClassifier(C=3, trust=0.5).fit(x, given).C_ == 3.0


def test_trust_by_hand_or_too_few_rows_end_the_contest(planted):
    x, _, given, _, _ = planted
    by_hand = RobustClassifier(trust=0.2, random_state=0).fit(x, given)
    assert (by_hand.agreement_, by_hand.trust_) == ({}, 0.2)
    few = RobustClassifier(random_state=0).fit(x[:40], given[:40])
    assert (few.agreement_, few.trust_) == ({}, 0.5)


def test_corrected_labels_win_where_neighbors_are_pure_and_classes_few(blobs):
    x, y = blobs(n=900, k=2, d=60, spread=0.6, seed=0)
    given = np.where(np.random.default_rng(0).random(900) < 0.35, 1 - y, y)
    robust = RobustClassifier(random_state=0).fit(x[:600], given[:600])
    plain = LogisticRegression(C=10).fit(x[:600], given[:600])
    assert robust.score(x[600:], y[600:]) > plain.score(x[600:], y[600:]) + 0.02


def test_probabilities_scores_and_labels_agree(planted):
    x, _, given, test, _ = planted
    names = np.array(["a", "b", "c", "d", "e"])
    robust = RobustClassifier(random_state=0).fit(x, names[given])
    proba = robust.predict_proba(test)
    assert np.allclose(proba.sum(axis=1), 1)
    assert np.array_equal(robust.classes_[proba.argmax(axis=1)], robust.predict(test))
    assert np.allclose(test @ robust.coef_.T + robust.intercept_, robust.decision_function(test))


def test_two_classes_have_one_score(blobs):
    x, y = blobs(n=100, k=2)
    robust = RobustClassifier(random_state=0).fit(x, y)
    score = robust.decision_function(x)
    assert score.shape == (100,)
    assert np.array_equal((score > 0).astype(int), robust.predict(x))


def test_equal_seeds_agree_and_clone_keeps_params(planted):
    x, _, given, test, _ = planted
    one = RobustClassifier(C=3.0, trust=0.2, random_state=5).fit(x, given)
    two = clone(one).fit(x, given)
    assert np.array_equal(one.coef_, two.coef_)


def test_scale_and_shift_of_features_do_not_matter(planted):
    x, _, given, test, _ = planted
    plain = RobustClassifier(random_state=0).fit(x, given).predict(test)
    moved = RobustClassifier(random_state=0).fit(100 * x + 7, given).predict(100 * test + 7)
    assert (plain == moved).mean() > 0.99


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": 0}, "C=0"),
        ({"C": "large"}, "'large'"),
        ({"robustness": 2}, "robustness=2"),
        ({"trust": -1}, "trust=-1"),
        ({"trust": "much"}, "'much'"),
    ],
)
def test_bad_parameters(planted, params, message):
    with pytest.raises(ValueError, match=message):
        RobustClassifier(**params).fit(planted[0], planted[2])


def test_bad_labels(planted):
    x, _, given, _, _ = planted
    with pytest.raises(ValueError, match=r"one class only, \[0.0\]"):
        fit_robust(x, np.zeros(len(x)))
    with pytest.raises(ValueError, match="1499 entries for 1500 rows"):
        fit_robust(x, given[:-1])
    with pytest.raises(ValueError, match=r"no label at position\(s\) 3"):
        fit_robust(x, [None if i == 3 else "ab"[label % 2] for i, label in enumerate(given)])


def test_public_name():
    assert fmcluster.fit_robust is fit_robust


def test_two_spaces_are_learned_together_with_or_without_preprocessing(blobs):
    x, y = blobs(160, 4, d=12)
    halves = [x[:, :6].copy(), x[:, 6:].copy()]
    both = fit_robust(halves, y)
    assert both.coef_.shape == (4, 12)
    joined = np.concatenate([unit_rows(halves[0]), 0.7 * unit_rows(halves[1])], axis=1)
    assert np.array_equal(both.predict(halves), fit_robust(unit_rows(joined), y).predict(joined))
    result = fmcluster.cluster(halves, n_clusters=4, head="kmeans", preprocess="pca=4")
    assert fit_robust(result, y).coef_.shape == (4, 8)
