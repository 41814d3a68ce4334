import errno
import os
import shutil

import numpy as np
import pytest

from fmcluster.utils import blocks


def parts(n=6, rows=10, columns=7):
    return [np.full((rows, columns), i, np.float32) for i in range(n)]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """No more than 100 bytes are held; files go where they can be counted."""
    monkeypatch.setattr(blocks, "IN_MEMORY", 100)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 21)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def in_file(array):
    return blocks._map_of(array) is not None


@pytest.mark.parametrize("n_rows", [60, None])
def test_a_large_matrix_is_in_a_file_without_a_name_and_reads_as_any_other(small, n_rows):
    found = blocks.stacked(iter(parts()), n_rows)
    assert type(found) is np.ndarray and in_file(found) and found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate(parts()))
    assert os.listdir(small) == []
    found[5, 2] = 9  # what is written stays, also once the memory was given back
    assert [blocks._let_go(blocks._map_of(found)), found[5, 2]] == [None, 9]


@pytest.mark.parametrize("n_rows", [60, None])
def test_a_small_one_is_held(n_rows):
    found = blocks.stacked(parts(), n_rows)
    assert not in_file(found)
    np.testing.assert_array_equal(found, np.concatenate(parts()))
    assert blocks.stacked([], n_rows).shape == (0,)


def test_rows_are_taken_in_blocks_whose_answers_are_those_of_all_rows(small):
    array = np.random.default_rng(0).random((50, 7)).astype(np.float32)
    sizes = [len(array[part]) for part in blocks.row_blocks(array)]
    assert sizes == [3] * 16 + [2]
    np.testing.assert_array_equal(blocks.by_rows(lambda p: p.argmax(1), array), array.argmax(1))
    assert blocks.by_rows(lambda p: p.max(axis=1), array[:0]).shape == (0,)
    copy = blocks.copied(array)
    copy[0] = 0
    assert in_file(copy) and array[0].any()
    np.testing.assert_array_equal(blocks.joined([copy[1:], array[:1]])[-1], array[0])


def test_picked_rows_are_the_array_itself_where_they_are_all_of_it(small):
    array = np.arange(140, dtype=np.float32).reshape(20, 7)
    assert blocks.picked(array, np.arange(20)) is array
    some = np.array([3, 0, 0, 19, 4, 5, 6, 7])
    np.testing.assert_array_equal(blocks.picked(array, some), array[some])
    assert blocks.picked(array, some[:0]).shape == (0, 7)


def test_what_was_written_to_a_private_map_is_never_given_back(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 7)))
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[:] = 5
    list(blocks.row_blocks(private))
    assert (private == 5).all()


def test_a_disk_without_room_is_said_before_anything_is_made(small, monkeypatch):
    usage = shutil.disk_usage(small)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"60 rows in 7 clusters take .* TMPDIR"):
        blocks.stacked(iter(parts()), 60)


def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(small, monkeypatch):
    class Full:
        def __init__(self, made):
            self.made = made

        def __enter__(self):
            return self

        def __exit__(self, *what):
            self.made.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    made = blocks.tempfile.TemporaryFile
    monkeypatch.setattr(blocks.tempfile, "TemporaryFile", lambda **kw: Full(made(**kw)))
    with pytest.raises(OSError, match="No space left"):
        blocks.stacked(iter(parts()), None)
    assert os.listdir(small) == []
