"""Ids are names: found as names, never taken for positions; lengths are equal or refused."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex, check_ids


def test_hashes_of_64_bits_keep_their_value():
    big = np.array([2**63 + 5, 7], dtype=np.uint64)
    assert check_ids(big).tolist() == ["9223372036854775813", "7"]
    assert check_ids(np.array([3, 4], dtype=np.uint64)).dtype == np.int64


@pytest.mark.parametrize(
    ("ids", "left_out", "expected"),
    [
        ([0, 1, 2], (), True),
        ([0, 2, 3], (1,), True),
        ([0, 2, 3], (), False),
        ([1, 2, 3], (), False),
        ([2, 1, 0], (), False),
        ([0, 1], ("a",), False),
        (["0", "1"], (), False),
    ],
)
def test_row_numbers_are_told_from_names(ids, left_out, expected):
    assert IdIndex(np.array(ids), left_out).are_positions is expected


def test_labels_match_by_the_length_of_the_data_and_nothing_else():
    labels = np.array(list("abcd"))
    assert IdIndex(np.array([0, 2, 3]), (1,)).align(labels).tolist() == ["a", "c", "d"]
    tickets = IdIndex(np.array([70, 90, 91]), (80,))
    assert tickets.align(labels, source_ids=[70, 80, 90, 91]).tolist() == ["a", "c", "d"]
    with pytest.raises(DataError, match="4 rows of the data .3 embedded and 1 left out"):
        tickets.align(labels[:3])
    with pytest.raises(DataError, match="5 labels for 3 rows"):
        IdIndex(np.arange(3)).align(np.arange(5))
    with pytest.raises(DataError, match="places in the data are not known"):
        tickets.align(labels)


def test_ids_of_another_kind_are_unknown():
    index = IdIndex(np.array([7, 8]))
    assert index.find(["7", "8"]).tolist() == [-1, -1]
    assert IdIndex(np.array(["007"])).find([7]).tolist() == [-1]
    assert index.parse(["8", "7"]).tolist() == [8, 7]
    with pytest.raises(DataError, match="whole numbers"):
        index.parse(["x"])
    with pytest.raises(ValueError, match="not among the 2 rows: 9; ids here are such as 7"):
        index.rows_of([9])


@settings(max_examples=50, deadline=None)
@given(st.permutations(list(range(12))), st.sets(st.integers(0, 11), max_size=6))
def test_rows_follow_their_ids_whatever_the_order(order, dropped):
    names = np.array([f"t{i}" for i in order if i not in dropped])
    index = IdIndex(names)
    asked = sorted(names.tolist())
    assert names[index.rows_of(asked)].tolist() == asked


def test_ids_may_come_as_views_sets_or_a_column_of_objects():
    index = IdIndex(np.array([7, 8, 9]))
    assert index.rows_of({9: "a", 7: "b"}.keys()).tolist() == [2, 0]
    assert index.rows_of({8}).tolist() == index.rows_of(i for i in [8]).tolist() == [1]
    assert index.rows_of(np.array([8, 7], dtype=object)).tolist() == [1, 0]
    assert index.find(np.array(["8", 7], dtype=object)).tolist() == [-1, 0]
    assert index.find(np.array([True, False, True])).tolist() == [-1, -1, -1], "a mask is no id"


def test_ids_are_found_by_the_objects_they_were_made_of():
    uuids = [UUID(int=i) for i in (5, 6, 7)]
    index = IdIndex(check_ids(uuids))
    assert index.rows_of([uuids[2], uuids[0]]).tolist() == [2, 0]
    hashes = np.array([2**63 + 1, 2**64 - 1, 7], np.uint64)
    index = IdIndex(check_ids(hashes))
    assert index.ids.tolist() == [str(one) for one in hashes]
    assert index.rows_of([2**64 - 1]).tolist() == [1]
    assert index.find([7]).tolist() == index.find(np.array([7], dtype=object)).tolist() == [-1]
    assert IdIndex(np.array(["None", "nan"])).find([None, float("nan")]).tolist() == [-1, -1]
