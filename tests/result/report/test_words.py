"""What to trust, in words: from calibrated confidence, and called an estimate."""

import dataclasses

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.functional.metrics import matched_correct
from fmcluster.result.expected import expected
from fmcluster.result.report.confusion import Confusion
from fmcluster.result.report.words import trust


def said(sentences):
    return ["".join(piece["text"] for piece in sentence) for sentence in sentences]


@pytest.fixture
def result(blobs):
    X, y = blobs(200, 4)
    return fmc.cluster(X, n_clusters=4, head="kmeans"), y


def with_confidence(result, confidence):
    return dataclasses.replace(result, confidence=np.asarray(confidence, np.float32))


def test_the_share_is_an_estimate_with_a_range_and_says_by_what(result):
    result, y = result
    half = with_confidence(result, [0.99] * 100 + [0.3] * 100)
    first, second, third = said(trust(half, (), names=["a", "b", "c", "d"], y=y))
    usable = expected(half).usable
    count = round(200 * usable.value)
    share = f"{round(100 * usable.value)} % of the rows ({count} of 200)"
    assert first.startswith(f"About {share} can be used as they are at 95 %, between ")
    assert f"{round(100 * usable.low)} % and {round(100 * usable.high)} %" in first
    assert "estimate" in second and "without labels" in second and "certify" in second
    chosen = np.argsort(-half.confidence, kind="stable")[:count]
    right = 100 * matched_correct(y, half.labels)[chosen].mean()
    assert third == f"Held against the true labels, {right:.1f} % of these rows are right."
    assert (
        "All 200 rows" in said(trust(with_confidence(result, [0.999] * 200), (), names="abcd"))[0]
    )
    none = said(trust(with_confidence(result, [0.5] * 200), (), names="abcd"))[0]
    assert none == "No part of the rows can be expected to be 95 % right: look at them all."


def test_a_few_answers_are_counted_as_such(result):
    result, y = result
    told = result.with_answers(labels={result.ids[0]: str(y[0])})
    assert "calibrated by 1 answer." in said(trust(told, (), names="abcd"))[1]


def test_after_labels_it_says_that_labels_calibrated_it(result):
    result, y = result
    better = result.calibrate(result.ids[:60], y[:60])
    assert "calibrated on 60 labeled rows" in said(trust(better, (), names="abcd"))[1]


def test_scores_that_are_not_calibrated_promise_nothing(blobs):
    X, _ = blobs(200, 4)
    raw = fmc.cluster(X, n_clusters=4, head="kmeans", calibrate=False)
    [sentence] = said(trust(raw, (), names="abcd"))
    assert "not calibrated" in sentence and "%" not in sentence


def test_pairs_that_may_be_one_are_named_with_their_numbers(result):
    result = result[0]
    near = Confusion(2, 1, 9.0, 0.6, 0.4, np.arange(3))
    far = Confusion(3, 0, 1.0, 0.6, 0.01, np.arange(3))
    sentences = trust(result, (near, far), names=["a", "b", "c", "d"])
    assert said(sentences)[-1].startswith("c and b may be one cluster")
    assert [piece["cluster"] for piece in sentences[-1] if "cluster" in piece] == [2, 1]
    two = said(trust(result, (near, near), names="abcd"))[-1]
    assert two == "Of each of these pairs the two may be one cluster: c and b; c and b."


def test_rows_in_no_cluster_are_told(result):
    labels = result[0].labels.copy()
    labels[:3] = -1
    odd = dataclasses.replace(result[0], labels=labels)
    assert "3 rows fit no cluster and are in none." in said(trust(odd, (), names="abcd"))
