"""Expected accuracy and usable share: means over the level's error, and their ranges."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit, logit

import fmcluster as fmc
from fmcluster.result.expected import (
    AS_GOOD,
    LEVEL_ERROR,
    SHIFTS,
    Expected,
    by_confidence,
    expected,
)


def test_certain_rows_are_right_whatever_the_level():
    told = by_confidence(np.ones(50))
    assert told.accuracy.low == told.accuracy.high == told.usable.low == told.usable.value == 1


def test_the_figures_are_those_of_the_formula():
    confidence = np.array([0.99, 0.97, 0.9, 0.6])
    told = by_confidence(confidence)
    shifted = expit(logit(confidence) + LEVEL_ERROR * SHIFTS[:, None])
    assert told.accuracy.value == pytest.approx(shifted.mean())
    assert told.accuracy.low == pytest.approx(shifted[0].mean())
    usable = [(np.cumsum(s) / [1, 2, 3, 4] >= 0.95).mean() for s in shifted]
    assert told.usable.value == pytest.approx(np.mean(usable))
    assert (told.usable.low, told.usable.high) == (usable[0], usable[-1])


def test_it_moves_by_degrees_where_many_rows_pass_the_threshold_at_once():
    """All rows at 0.951 or all at 0.949: one sum says all and none."""
    above, below = (by_confidence(np.full(100, c)).usable for c in (0.951, 0.949))
    assert above.value == pytest.approx(below.value, abs=0.11)
    assert 0.3 < below.value < 0.7 and (below.low, below.high) == (0, 1)


def test_labels_narrow_the_range_and_many_rows_are_sampled_faithfully():
    draw = np.random.default_rng(0).beta(4, 1, size=30_000)
    few, many = by_confidence(draw), by_confidence(draw, 200)
    assert many.accuracy.high - many.accuracy.low < 0.5 * (few.accuracy.high - few.accuracy.low)
    assert few.accuracy.value == pytest.approx(draw.mean(), abs=0.02)
    some = by_confidence(np.sort(draw)[::10])
    assert few.usable.value == pytest.approx(some.usable.value, abs=0.003)


def test_one_answer_does_not_throw_it_over(blobs):
    X, y = blobs(200, 4)
    result = fmc.cluster(X, n_clusters=4, head="kmeans")
    before = expected(result)
    told = result.with_answers(labels={result.ids[0]: str(y[0])})
    low = dataclasses.replace(told, confidence=np.full(200, 0.5, np.float32))
    now, raw = expected(low), by_confidence(low.confidence, 1)
    share = AS_GOOD / (AS_GOOD + 1)
    for name in ("accuracy", "usable"):
        mixed = (1 - share) * getattr(raw, name).value + share * getattr(before, name).value
        assert getattr(now, name).value == pytest.approx(mixed)
    more = told.with_answers(
        labels={i: str(c) for i, c in zip(result.ids[1:9], y[1:9], strict=True)}
    )
    kept = more.provenance["expected_before_answers"]
    assert kept == told.provenance["expected_before_answers"] == before.to_dict()


def test_it_is_kept_on_the_disk(blobs, tmp_path):
    X, y = blobs(120, 3)
    told = fmc.cluster(X, n_clusters=3, head="kmeans").with_answers(labels={0: "a", 1: "b"})
    told.save(tmp_path / "run")
    assert expected(fmc.ClusterResult.load(tmp_path / "run")) == expected(told)


@pytest.mark.parametrize("odd", [None, {}, {"accuracy": 3, "usable": {}}, "text"])
def test_what_is_no_record_is_passed_over(odd):
    assert Expected.of(odd) is None
