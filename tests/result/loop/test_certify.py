"""`certify`: promises that hold, no promise where labels do not suffice, one line where misused."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.result.loop.certify import Certificate, certify

NAMES = np.array(["ant", "bee", "cat", "dog"])


@pytest.fixture(scope="module")
def world(blobs):
    """Return a clustering whose unsure rows are often wrong, named after classes."""
    x, y = blobs(n=1200, k=4, d=12, spread=0.33, seed=3)
    result = fmc.cluster(x, n_clusters=4, head="kmeans", random_state=0)
    table = np.zeros((4, 4), int)
    np.add.at(table, (result.labels, y), 1)
    named = result.with_pipeline(names=tuple(NAMES[table.argmax(axis=1)].tolist()))
    right = np.array(named.names)[named.labels] == NAMES[y]
    assert 0.7 < right.mean() < 0.97
    return SimpleNamespace(result=named, y=NAMES[y], right=right)


def accuracy_of(world, found):
    return world.right[world.result.confidence >= found.threshold].mean()


def test_certificate_says_what_it_rests_on(world):
    ids = fmc.query(world.result, 250, strategy="certify", accuracy=0.9)
    found = world.result.certify(ids, world.y[ids], accuracy=0.9)
    assert isinstance(found, Certificate)
    assert found.is_certified and found.reason is None
    above = world.result.confidence >= found.threshold
    assert found.coverage == pytest.approx(above.mean())
    assert 0.3 < found.coverage <= 1
    assert accuracy_of(world, found) >= found.accuracy_lower >= 0.9 - 1e-3
    assert found.n_labels == 250 and found.n_set_aside == 0
    assert found.n_above == above[ids].sum()
    assert found.n_right == (above & world.right)[ids].sum()
    assert found.class_of_cluster == dict(enumerate(world.result.names))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.threshold = 0.5
    told = json.loads(json.dumps(found.to_dict()))
    assert told == {name: value for name, value in vars(found).items() if name in told}
    assert set(vars(found)) - set(told) == {"class_of_cluster"}


@pytest.mark.parametrize("strategy", ["certify", "random"])
def test_promise_is_kept(world, strategy):
    broken, coverage = [], []
    for seed in range(40):
        ids = fmc.query(world.result, 120, strategy=strategy, accuracy=0.9, random_state=seed)
        found = world.result.certify(ids, world.y[ids], accuracy=0.9, delta=0.1)
        broken.append(found.is_certified and accuracy_of(world, found) < 0.9)
        coverage.append(found.coverage)
    assert np.mean(broken) <= 0.1 + 3 * np.sqrt(0.09 / 40)
    assert np.mean(coverage) > 0.2


def test_equal_weights_change_nothing(world):
    ids, weights = fmc.query(world.result, 200, strategy="certify", return_weights=True)
    plain = world.result.certify(ids, world.y[ids])
    assert world.result.certify(ids, world.y[ids], weights=weights) == plain


def test_unequal_weights_serve_a_stratified_draw(world):
    order = np.argsort(-world.result.confidence)
    rng = np.random.default_rng(0)
    strata = [order[:600], order[600:]]
    rows = np.concatenate([rng.choice(s, m, False) for s, m in zip(strata, (250, 50), strict=True)])
    weights = np.repeat([600 / 250, 600 / 50], [250, 50])
    found = world.result.certify(rows, world.y[rows], accuracy=0.85, weights=weights)
    assert found.is_certified
    assert accuracy_of(world, found) >= 0.85


def test_few_or_wrong_labels_certify_nothing_and_say_why(world):
    ids = fmc.query(world.result, 20, strategy="certify")
    few = world.result.certify(ids, world.y[ids])
    assert few.threshold is None and few.coverage == 0 and not few.is_certified
    assert "at least 59, all right, are needed" in few.reason
    ids = fmc.query(world.result, 200, strategy="random")
    wrong = np.where(np.arange(200) % 2, world.y[ids], "eel")
    found = world.result.certify(ids, wrong)
    assert found.threshold is None
    assert "fewer than the share 0.95" in found.reason
    assert found.accuracy_lower < 0.6


def test_classes_of_unnamed_clusters_are_learned_from_labels_that_do_not_certify(world):
    unnamed = world.result.with_pipeline(names=None)
    ids = fmc.query(unnamed, 300, strategy="certify", accuracy=0.85)
    found = unnamed.certify(ids, world.y[ids], accuracy=0.85)
    assert (found.n_labels, found.n_set_aside) == (200, 100)
    assert found.class_of_cluster == dict(enumerate(world.result.names))


def with_answers(result, labels):
    class Answered:
        answers = SimpleNamespace(labels=labels)

        def __getattr__(self, name):
            return getattr(result, name)

    return Answered()


def test_earlier_answers_name_clusters_and_prove_nothing(world):
    unnamed = world.result.with_pipeline(names=None)
    told = np.arange(0, 1200, 30)
    answered = with_answers(unnamed, dict(zip(told.tolist(), world.y[told], strict=True)))
    ids = fmc.query(answered, 200, strategy="certify", accuracy=0.85)
    assert not set(ids) & set(told)
    both = np.concatenate([ids, told])
    found = certify(answered, both, world.y[both], accuracy=0.85)
    alone = certify(answered, ids, world.y[ids], accuracy=0.85)
    assert (found.n_labels, found.n_set_aside) == (200, len(told))
    assert dataclasses.replace(found, n_set_aside=0) == alone
    with pytest.raises(ValueError, match="all 40 rows were answered"):
        certify(answered, told, world.y[told])


def test_rows_that_were_not_drawn_evenly_are_refused(world):
    most = np.argsort(-world.result.confidence)
    rows = np.concatenate([most[:100], most[-1:]])
    with pytest.raises(ValueError, match="no even draw"):
        world.result.certify(rows, world.y[rows])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [0, 1]}, "3 entries for 2 rows|3 labels|lengths?"),
        ({"ids": [0, 1, 99999]}, "99999"),
        ({"ids": [0, 0, 1]}, "more than once"),
        ({"classes": ["ant", None, "bee"]}, r"no label at position\(s\) 1"),
        ({"accuracy": 95}, "accuracy=95 must lie between 0 and 1"),
        ({"delta": 0.0}, "delta=0.0"),
        ({"weights": [1.0, 2.0]}, "weights must be 3 positive numbers"),
        ({"weights": [1.0, 2.0, -1.0]}, "weights must be 3 positive numbers"),
    ],
)
def test_bad_input_is_one_line(world, change, message):
    given = {"ids": [0, 1, 2], "classes": ["ant", "bee", "cat"]} | change
    with pytest.raises(ValueError, match=message) as error:
        world.result.certify(given.pop("ids"), given.pop("classes"), **given)
    assert "\n" not in str(error.value)


def test_labels_that_calibrated_prove_nothing(world):
    told = np.arange(0, 1200, 20)
    named = world.result.calibrate(told, world.y[told])
    with pytest.raises(ValueError, match="all 60 rows were answered, moved or calibrated"):
        named.certify(told, world.y[told])
    again = named.calibrate([1, 2, 3], world.y[[1, 2, 3]])
    both = np.concatenate([told, [1, 2, 3, 4]])
    found = again.certify(both, world.y[both])
    assert (found.n_labels, found.n_set_aside) == (1, 63)


def test_no_label_or_one_certifies_nothing_and_says_why(world):
    for result in (world.result, world.result.with_pipeline(names=None)):
        for m in (0, 1):
            found = result.certify(np.arange(m), world.y[:m], weights=np.ones(m))
            assert (found.threshold, found.coverage) == (None, 0)
            assert "at least 59, all right, are needed" in found.reason
            assert found.n_labels + found.n_set_aside == m


def test_classes_are_compared_as_tables_write_them(world):
    numbers = np.unique(world.y, return_inverse=True)[1]
    told = np.arange(0, 1200, 20)
    named = world.result.with_pipeline(names=None).calibrate(told, numbers[told])
    ids = fmc.query(named, 150, strategy="certify", accuracy=0.9)
    ids = np.setdiff1d(ids, told)
    of_whole = named.certify(ids, numbers[ids], accuracy=0.9)
    assert of_whole.n_right > 100
    assert named.certify(ids, numbers[ids].astype(float), accuracy=0.9) == of_whole


def test_what_calibrated_or_moved_before_the_answers_proves_nothing_after_them(blobs):
    x, y = blobs(n=240, k=3, d=8, spread=0.2, seed=1)
    names = NAMES[y]
    told = np.arange(0, 60)
    result = fmc.cluster(x, n_clusters=3).calibrate(told, names[told])
    answered = result.with_answers(labels={100: names[100]})
    both = np.r_[told, 100]
    with pytest.raises(ValueError, match="all 61 rows were answered"):
        answered.certify(both, names[both])
    moved = result.move([101], int(result.labels[100]))
    again = moved.calibrate([102, 103], names[[102, 103]]).with_answers(labels={100: names[100]})
    both = np.r_[told, 100:104]
    with pytest.raises(ValueError, match="all 64 rows were answered"):
        again.certify(both, names[both])
