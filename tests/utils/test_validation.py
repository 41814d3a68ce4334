"""The doors: what they return, and that an error quotes what was given and says what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fmcluster.utils.errors import DataError, MissingExtraError
from fmcluster.utils.ids import check_ids
from fmcluster.utils.optional import require
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import (
    check_finite_rows,
    check_in,
    check_labels,
    check_matrix,
    check_n_clusters,
    check_prior,
    check_proba,
    check_range,
    listed,
)

# --- require ---------------------------------------------------------------------------------


def test_require_imports_or_names_the_command():
    assert require("json", extra="any").dumps([1]) == "[1]"
    with pytest.raises(MissingExtraError, match=r"Foo is not.*pip install 'fmcluster\[foo\]'"):
        require("no_such_module_here", extra="foo", package="Foo")
    with pytest.raises(ImportError, match="no_such_module_here is not installed"):
        require("no_such_module_here", extra="foo")


# --- matrices --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("int64", "float32"),
        ("uint8", "float32"),
        ("bool", "float32"),
    ],
)
def test_matrices_keep_float64_and_turn_all_else_to_float32(given, kept):
    X = np.array([[0, 1], [1, 0]], dtype=given)
    found = check_matrix(X)
    assert found.dtype == kept
    np.testing.assert_array_equal(found, X)


def test_a_good_matrix_is_not_copied():
    X = np.zeros((3, 2), np.float32)
    assert check_matrix(X) is X
    assert check_matrix([[1, 2]]).shape == (1, 2)


@pytest.mark.parametrize("X", [[["a", "b"]], np.array([[None, 1]]), [[1j]]])
def test_what_is_not_numeric_is_a_type_error(X):
    with pytest.raises(TypeError, match="features must be numeric.*embed the data first"):
        check_matrix(X, name="features")


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), ()])
def test_the_wrong_number_of_axes_is_quoted(shape):
    with pytest.raises(ValueError, match="2-D") as caught:
        check_matrix(np.zeros(shape))
    assert str(shape) in str(caught.value)
    assert "reshape" in str(caught.value)


@pytest.mark.parametrize(("shape", "rows"), [((0, 3), 1), ((3, 0), 1), ((1, 3), 2)])
def test_too_few_rows_or_columns(shape, rows):
    with pytest.raises(ValueError, match=f"at least {rows} row"):
        check_matrix(np.zeros(shape), min_rows=rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(value):
    X = np.zeros((20, 3))
    X[[2, 5, 7, 11, 13, 17, 19], 1] = value
    with pytest.raises(ValueError, match=r"7 row\(s\): 2, 5, 7, 11, 13 and 2 more"):
        check_matrix(X)
    ids = np.array([f"id{i}" for i in range(20)])
    with pytest.raises(ValueError, match="Z holds.*id2, id5.*drop or repair"):
        check_matrix(X, name="Z", ids=ids)


def test_opposite_infinities_do_not_cancel_and_large_rows_are_no_error():
    with pytest.raises(ValueError, match=": 0, 1;"):
        check_finite_rows(np.array([[np.inf, 0.0], [-np.inf, 0.0], [1.0, 1.0]]))
    check_finite_rows(np.full((4, 4), np.finfo(np.float64).max))  # only the sum overflows
    check_finite_rows(np.full((4, 4), np.finfo(np.float32).max, np.float32))
    check_finite_rows(np.full((64, 64), 60_000, np.float16))
    check_finite_rows(np.zeros((0, 3)))


# --- ids, labels and probabilities -----------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([3, 1], np.array([3, 1])),
        (np.array([0, 7], np.uint8), np.array([0, 7])),
        (["b", "a\0c"], np.array(["b", "a\0c"])),
        (np.array([1.5, "x"], object), np.array(["1.5", "x"])),
    ],
    ids=["list", "narrow integers", "text", "objects"],
)
def test_ids_become_int64_or_text(ids, kept):
    found = check_ids(ids)
    assert found.dtype == kept.dtype
    assert found.tolist() == kept.tolist()


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([1, 2, 1], "1 row id.* more than once, the first is 1"),
        (["a", "a\0"], r"row id 'a\\x00' ends in a NUL character"),
        ([0.5, 1.5], "one integer or string per row, got float64"),
        ([[1, 2]], r"of shape \(1, 2\)"),
    ],
)
def test_bad_ids_are_quoted(ids, match):
    with pytest.raises(DataError, match=match):
        check_ids(ids)


def test_labels_of_any_kind_pass_unchanged():
    for y in (["a", "b"], [0, 5], [True, False], [0.0, 1.0], np.array([b"x", b"y"])):
        np.testing.assert_array_equal(check_labels(y, 2), y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([[0], [1]], r"truth must be 1-D, one a row, got shape \(2, 1\)"),
        ([["a"], ["b", "c"]], r"truth must be one a row: position 0 holds .*list"),
        ([pd.NA, "a"], r"truth holds no label at position\(s\) 0"),
        (pd.Series(["a", pd.NA], dtype="string"), r"truth holds no label at position\(s\) 1"),
        ([pd.NaT, "a"], r"truth holds no label at position\(s\) 0"),
        ([0, 1, 1], "truth has 3 entries for 2 rows"),
        ([0.0, np.nan], "position.*1"),
        (["a", None], r"truth holds no label at position\(s\) 1"),
        (["a", float("nan")], r"truth holds no label at position\(s\) 1"),
        (["a", 3], "truth holds both numbers and text, as 'a'"),
    ],
)
def test_bad_labels_are_quoted(y, match):
    with pytest.raises(ValueError, match=match):
        check_labels(y, 2, name="truth")


def test_probabilities_pass_within_the_tolerance():
    p = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert check_proba(p) is p
    check_proba(p + [[5e-4, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="sum to 1"):
        check_proba(p + [[5e-4, 0.0], [0.0, 0.0]], atol=1e-4)


@pytest.mark.parametrize(
    ("p", "match"),
    [
        ([[0.5, 0.5], [0.5, 0.4]], "row 1 sums to 0.9: normalize"),
        ([[1.5, -0.5]], r"\[0, 1\], got values from -0.5 to 1.5"),
        ([0.5, 0.5], "2-D"),
        ([[np.nan, 1.0]], "NaN"),
    ],
)
def test_bad_probabilities_are_quoted(p, match):
    with pytest.raises(ValueError, match=match):
        check_proba(p)


# --- numbers of clusters and priors ----------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, np.int32(3), np.uint8(4)])
def test_numbers_of_clusters_become_int(k):
    found = check_n_clusters(k, 10)
    assert type(found) is int and found == k


@pytest.mark.parametrize("k", [2.0, "2", None, True, [2], np.float64(2)])
def test_a_number_of_clusters_that_is_no_integer_is_a_type_error(k):
    with pytest.raises(TypeError, match="positive integer or 'auto'"):
        check_n_clusters(k, 10)


@pytest.mark.parametrize(
    ("k", "distinct", "match"),
    [
        (0, None, "n_clusters=0 must be at least 1"),
        (-3, None, "n_clusters=-3"),
        (11, None, "n_clusters=11.*n_samples=10"),
        (6, 5, r"n_clusters=6.*distinct rows, 5 \(of 10\).*at most 5"),
    ],
)
def test_impossible_numbers_of_clusters_are_quoted(k, distinct, match):
    with pytest.raises(ValueError, match=match):
        check_n_clusters(k, 10, n_distinct=distinct)


def test_priors_are_float64_and_sum_to_one_exactly():
    found = check_prior([0.5, 0.25, 0.25 + 5e-5], 3)
    assert found.dtype == np.float64
    assert found.sum() == pytest.approx(1, abs=1e-15)
    assert check_prior(np.float32([0.2, 0.8]), 2).sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("prior", "match"),
    [
        ([0.5, 0.5, 0.0], "positive, entry 2 is 0"),
        ([1.5, -1.0, 0.5], "entry 1 is -1"),
        ([0.5, 0.5], r"shape \(2,\), expected \(3,\)"),
        ([[0.5, 0.3, 0.2]], r"shape \(1, 3\)"),
        ([0.5, 0.5, 0.5], "sums to 1.5: divide"),
        ([np.nan, 0.5, 0.5], "NaN"),
    ],
)
def test_bad_priors_are_quoted(prior, match):
    with pytest.raises(ValueError, match=match):
        check_prior(prior, 3)


# --- words and numbers -----------------------------------------------------------------------


def test_words_outside_the_list_are_quoted_with_the_list():
    assert check_in("a", ("a", "b"), "mode") == "a"
    with pytest.raises(ValueError, match="mode='c' is not known: choose one of 'a', 'b'"):
        check_in("c", ("a", "b"), "mode")


def test_ranges_are_closed_unless_told():
    for value in (0, 1, 0.5, np.float32(0.5), np.int8(1)):
        assert check_range(value, "t", low=0, high=1) is value
    with pytest.raises(ValueError, match=r"t=0 is outside \(0, 1\]"):
        check_range(0, "t", low=0, high=1, open_low=True)
    with pytest.raises(ValueError, match=r"t=1.5 is outside \[0, 1\]"):
        check_range(1.5, "t", low=0, high=1)
    with pytest.raises(ValueError, match=r"t=-1 is outside \[0, inf\)"):
        check_range(-1, "t", low=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_range_holds_what_is_not_finite(value):
    with pytest.raises(ValueError, match="t="):
        check_range(value, "t")


@pytest.mark.parametrize("value", ["1", None, True, [1]])
def test_what_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match="t must be a number"):
        check_range(value, "t", low=0)


# --- seeds -----------------------------------------------------------------------------------


def test_equal_seeds_and_streams_give_equal_seeds_and_others_differ():
    assert seed_of(0, "views") == seed_of(np.int64(0), "views")
    found = {
        seed_of(seed, *stream)
        for seed in range(20)
        for stream in [(), ("a",), ("b",), ("a", 1), ("a", 2), ("a", "b"), ("b", "a")]
    }
    assert len(found) == 140
    assert all(0 <= seed < 2**31 for seed in found)


def test_the_seed_of_a_stream_is_pinned():
    # Results named by their seed must not change with a release.
    keys = [0, 3904355907]  # crc32(b"a")
    expected = int(np.random.SeedSequence(keys).generate_state(1)[0]) & 0x7FFFFFFF
    assert seed_of(0, "a") == expected


def test_generators_advance_and_repeat_and_none_is_fresh():
    for make in (np.random.RandomState, np.random.default_rng):
        generator = make(3)
        first, second = seed_of(generator, "x"), seed_of(generator, "x")
        assert first != second
        assert seed_of(make(3), "x") == first
    assert seed_of(None, "x") != seed_of(None, "x")


def test_bad_seeds_are_quoted():
    with pytest.raises(ValueError, match="random_state=-1"):
        seed_of(-1)
    for bad in ("0", 1.0, True):
        with pytest.raises(TypeError, match="random_state must be"):
            seed_of(bad)


def test_labels_by_id_are_told_how_to_become_one_a_row():
    with pytest.raises(ValueError, match=r"order of the ids, got a dict of 2: give \[y\[i\] for"):
        check_labels({"a": 0, "b": 1}, 2, name="y")


def test_views_sets_and_generators_are_many_values():
    answers = {3: "ant", 5: "bee"}
    assert listed(answers.keys()) == [3, 5] and listed({4}) == [4]
    assert listed(c for c in "ab") == ["a", "b"]
    array = np.arange(3)
    for one in (array, [1], (1,), "ab", 7, None, answers):
        assert listed(one) is one
    assert check_labels(answers.values(), 2).tolist() == ["ant", "bee"]


def test_arrays_and_frames_in_place_of_one_value_are_quoted_in_a_line():
    for bad in (pd.DataFrame({"a": [1, 2]}), pd.Series([1, 2]), np.arange(200).reshape(20, 10)):
        for check, error in (
            (lambda v: check_range(v, "alpha", low=0), TypeError),
            (lambda v: check_in(v, ("auto",), "strategy"), ValueError),
            (lambda v: check_n_clusters(v, 9), TypeError),
        ):
            with pytest.raises(error, match="alpha|strategy|n_clusters") as raised:
                check(bad)
            assert "\n" not in str(raised.value) and len(str(raised.value)) < 200
