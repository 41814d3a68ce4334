"""Calibration errors and rejection scores against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from fmcluster.functional.calibration import (
    apply_temperature,
    aurc,
    auroc,
    brier,
    classwise_ece,
    ece,
    excess_aurc,
    fit_temperature,
    fpr_at_tpr,
    nll,
    reliability_table,
    risk_coverage,
    temperature_for_mean,
)


def forecasts(n: int = 2000, k: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets drawn from them: calibrated by construction."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(k, 0.6), n)
    target = (rng.random((n, 1)) > proba.cumsum(axis=1)).sum(axis=1).clip(max=k - 1)
    return proba, target


@pytest.mark.parametrize("n_bins", [5, 15])
def test_ece_equals_torchmetrics(n_bins):
    proba, target = forecasts()
    proba = apply_temperature(proba, 0.4)
    ours = ece(proba.max(axis=1), proba.argmax(axis=1) == target, n_bins)
    from torchmetrics.functional.classification import multiclass_calibration_error

    theirs = multiclass_calibration_error(
        torch.tensor(proba), torch.tensor(target), num_classes=5, n_bins=n_bins, norm="l1"
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_classwise_ece_is_the_mean_of_binary_errors():
    proba, target = forecasts()
    # torchmetrics' binary error takes p(1) as the confidence when it is above a half, so every
    # column is compared through the one-column case of our own reliability table instead.
    ours = classwise_ece(proba, target)
    mean = np.mean([reliability_table(proba[:, j], target == j).ece for j in range(5)])
    assert ours == pytest.approx(mean)
    two = np.column_stack([1 - proba[:, 0], proba[:, 0]])
    from torchmetrics.functional.classification import binary_calibration_error

    theirs = binary_calibration_error(
        torch.tensor(two[:, 1]), torch.tensor((target == 0).astype(int)), n_bins=15, norm="l1"
    )
    assert reliability_table(two[:, 1], target == 0).ece == pytest.approx(float(theirs), abs=1e-6)


def test_calibrated_forecasts_have_a_small_error_and_sharper_ones_a_larger():
    proba, target = forecasts(20_000)
    correct = proba.argmax(axis=1) == target
    errors = [ece(apply_temperature(proba, t).max(axis=1), correct) for t in (1.0, 0.7, 0.4, 0.1)]
    assert errors[0] < 0.012
    assert errors == sorted(errors)


@pytest.mark.parametrize("strategy", ["width", "mass"])
def test_a_constant_forecast_has_the_known_error(strategy):
    correct = np.arange(100) < 30
    assert ece(np.full(100, 0.8), correct, strategy=strategy) == pytest.approx(0.5)


def test_a_confidence_of_one_is_in_the_last_bin():
    table = reliability_table([1.0, 0.95, 0.0], [1, 1, 0], n_bins=10)
    assert table.count.tolist() == [1] + [0] * 8 + [2]
    assert table.upper[-1] == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(0, 10_000), st.booleans())
def test_scores_do_not_depend_on_row_order_and_bins_hold_all_rows(n, seed, rounded):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(n), rng.random(n) < 0.5
    confidence = confidence.round(1) if rounded else confidence
    order = rng.permutation(n)
    for score in (
        ece,
        auroc,
        aurc,
        excess_aurc,
        fpr_at_tpr,
        lambda c, a: ece(c, a, strategy="mass"),
    ):
        value = score(confidence, correct)
        assert 0.0 <= value <= 1.0
        assert score(confidence[order], correct[order]) == pytest.approx(value, abs=1e-9)
    for strategy in ("width", "mass"):
        table = reliability_table(confidence, correct, strategy=strategy)
        assert table.count.sum() == n
        assert (table.count * table.accuracy).sum() == pytest.approx(correct.sum())
        assert (table.count * table.confidence).sum() == pytest.approx(confidence.sum())


def test_equal_mass_bins_hold_equal_numbers():
    rng = np.random.default_rng(0)
    table = reliability_table(rng.random(150) ** 4, rng.random(150) < 0.5, strategy="mass")
    assert table.count.tolist() == [10] * 15
    assert (table.upper[:-1] <= table.lower[1:]).all()


def test_auroc_and_fpr_equal_sklearn():
    rng = np.random.default_rng(2)
    correct = rng.random(700) < 0.7
    confidence = (correct * 0.3 + rng.random(700)).round(2) / 1.3
    assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence))
    fpr, tpr, _ = roc_curve(correct, confidence, drop_intermediate=False)
    assert fpr_at_tpr(confidence, correct) == pytest.approx(fpr[tpr >= 0.95].min())


def test_one_sided_correctness_is_defined():
    assert auroc([0.2, 0.8], [1, 1]) == 0.5
    assert fpr_at_tpr([0.2, 0.8], [1, 1]) == 0.0
    assert fpr_at_tpr([0.2, 0.8], [0, 0]) == 1.0


def test_risk_coverage_by_hand():
    coverage, risk = risk_coverage([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx(risk.mean())
    assert excess_aurc([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0]) == 0.0
    # All equal: whatever is rejected, the risk stays the error rate.
    np.testing.assert_allclose(risk_coverage(np.ones(4), [1, 0, 1, 0])[1], 0.5)


def test_brier_and_nll_by_hand_and_by_sklearn():
    proba, target = forecasts(300)
    assert nll(proba, target) == pytest.approx(log_loss(target, np.clip(proba, 1.2e-7, 1)))
    assert brier(proba, target) == pytest.approx(((proba - np.eye(5)[target]) ** 2).sum(1).mean())
    assert brier([[0.75, 0.25]], [-1]) == pytest.approx(0.75**2 + 0.25**2 + 1)
    assert nll([[1.0, 0.0]], [1]) == pytest.approx(-np.log(np.finfo(np.float32).eps))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 20), st.integers(0, 1000))
def test_temperature_keeps_the_argmax_and_the_simplex(temperature, seed):
    proba = np.random.default_rng(seed).dirichlet(np.ones(6), 50)
    soft = apply_temperature(proba, temperature)
    np.testing.assert_allclose(soft.sum(axis=1), 1.0)
    np.testing.assert_array_equal(soft.argmax(axis=1), proba.argmax(axis=1))
    moved = soft.max(axis=1) - proba.max(axis=1)
    assert (moved <= 1e-9).all() if temperature > 1 else (moved >= -1e-9).all()


@pytest.mark.parametrize("planted", [0.5, 2.5])
def test_temperature_recovers_what_was_planted(planted):
    proba, target = forecasts(100_000)
    distorted = apply_temperature(proba, 1 / planted)
    assert fit_temperature(distorted, target) == pytest.approx(planted, rel=0.02)


def test_zero_weight_equals_removal_and_rows_without_a_column_are_left_out():
    proba, target = forecasts(500)
    weights = (np.arange(500) < 300).astype(float)
    kept = fit_temperature(proba[:300], target[:300])
    assert fit_temperature(proba, target, weights=weights) == pytest.approx(kept, rel=1e-3)
    hidden = np.where(weights > 0, target, -1)
    assert fit_temperature(proba, hidden) == pytest.approx(kept, rel=1e-3)
    with pytest.raises(ValueError, match="no row has a right column"):
        fit_temperature(proba, np.full(500, -1))


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_temperature_for_a_mean_reaches_it(level):
    proba, _ = forecasts(400)
    soft = apply_temperature(proba, temperature_for_mean(proba, level))
    assert soft.max(axis=1).mean() == pytest.approx(level, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ece([0.5, 0.5], [1]), "equal length"),
        (lambda: ece([], []), "empty"),
        (lambda: ece([0.5, np.nan], [1, 0]), "NaN"),
        (lambda: ece([0.5, 0.5], [1, 2]), "only 0 and 1"),
        (lambda: ece([0.5, 1.5], [1, 0]), r"\[0, 1\]"),
        (lambda: ece([0.5], [1], 0), "n_bins=0"),
        (lambda: ece([0.5], [1], strategy="depth"), "strategy='depth'"),
        (lambda: nll([[0.5, 0.5]], [2]), "expected columns 0..1"),
        (lambda: brier([[0.5, 0.5]], [0, 1]), r"must be \(n, k\)"),
        (lambda: apply_temperature([[0.5, 0.5]], 0.0), "above 0"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
