"""Answers in row numbers: groups, contradictions, pseudo-classes."""

import numpy as np
import pytest

from fmcluster.functional.labels.answers import (
    Contradiction,
    RowAnswers,
    close_answers,
    pseudo_classes,
)


def pairs(*several):
    return np.array(several, np.int64).reshape(-1, 2)


def answers(labels=None, must=(), cannot=(), n_classes=None):
    labels = labels or {}
    target = np.array(list(labels.values()), np.int64)
    n = int(target.max()) + 1 if n_classes is None and len(target) else n_classes or 0
    rows = np.array(list(labels), np.int64)
    return RowAnswers(rows, target, n, pairs(*must), pairs(*cannot))


def group_of(groups):
    return dict(zip(groups.rows.tolist(), groups.group.tolist(), strict=True))


def test_links_carry_a_class_to_rows_without_one():
    groups = close_answers(answers({4: 0, 9: 1}, must=[(4, 2), (2, 7), (1, 3)]))
    found = group_of(groups)
    assert found[4] == found[2] == found[7] == 0 and found[9] == 1
    assert found[1] == found[3] == 2
    assert groups.n_classes == 2 and groups.apart[0, 1] and not groups.apart[0, 2]


def test_rows_that_differ_keep_their_whole_groups_apart():
    groups = close_answers(answers(must=[(0, 1), (2, 3)], cannot=[(1, 2)]))
    found = group_of(groups)
    assert groups.apart[found[0], found[3]] and groups.apart[found[3], found[0]]


def test_a_chain_between_rows_that_differ_names_its_ends_and_one_between():
    with pytest.raises(Contradiction) as caught:
        close_answers(answers(must=[(5, 6), (6, 8)], cannot=[(5, 8)]))
    assert caught.value.rows == [5, 6, 8] and caught.value.classes is None


def test_a_chain_between_two_classes_names_them():
    with pytest.raises(Contradiction) as caught:
        close_answers(answers({1: 0, 2: 1}, must=[(1, 7), (7, 2)]))
    assert sorted(caught.value.rows) == [1, 2, 7] and sorted(caught.value.classes) == [0, 1]


def test_two_rows_of_one_class_do_not_differ():
    with pytest.raises(Contradiction) as caught:
        close_answers(answers({1: 0, 2: 0}, cannot=[(1, 2)]))
    assert caught.value.rows == [1, 2]


def test_groups_of_one_cluster_are_one_class_and_two_answers_join_two_clusters():
    V = np.repeat(np.eye(3), 4, axis=0)  # rows 0..3, 4..7, 8..11
    alike = answers(must=[(0, 4), (1, 5)], cannot=[(0, 8)])
    target, n_classes = pseudo_classes(close_answers(alike), V, alike, most=3)
    found = dict(zip(close_answers(alike).rows.tolist(), target.tolist(), strict=True))
    assert n_classes == 2 and found[0] == found[1] == found[4] != found[8]


def test_no_class_joins_rows_that_differ_however_few_are_asked_for():
    V = np.ones((6, 1))
    apart = answers(cannot=[(a, b) for a in range(4) for b in range(a)])
    target, n_classes = pseudo_classes(close_answers(apart), V, apart, most=2)
    assert n_classes == 4 and len(np.unique(target)) == 4


def test_moved_answers_keep_classes_and_drop_links_within_one_row():
    before = answers({2: 0, 5: 1}, must=[(2, 7)], cannot=[(5, 7)])
    after = before.moved(np.array([2, 5, 7]), np.array([0, 1, 0]))
    assert after.rows.tolist() == [0, 1] and after.target.tolist() == [0, 1]
    assert len(after.must_link) == 0 and after.cannot_link.tolist() == [[1, 0]]
