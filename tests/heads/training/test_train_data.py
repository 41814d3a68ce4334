"""Rows that training reads: from disk, or whole on a device that has room for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmcluster.heads.training.data import TrainData
from fmcluster.utils import distributed
from fmcluster.vectors.rows import BLOCK_ROWS, Rows


class OnDisk:
    """An array that counts how often it is read."""

    def __init__(self, x):
        self.x, self.shape, self.dtype, self.reads = x, x.shape, x.dtype, 0

    def __getitem__(self, index):
        self.reads += 1
        return self.x[index]


@pytest.fixture
def source():
    return OnDisk(np.random.default_rng(0).normal(size=(BLOCK_ROWS + 5, 3)).astype(np.float32))


def train_data(source):
    return TrainData([Rows(source, memory_bytes=0)], None, 2, 0)


def same_rows(data, x):
    rows = torch.tensor([3, BLOCK_ROWS + 4, 0])
    np.testing.assert_array_equal(data.take(rows)[0], x[rows])
    for where, (block,) in data.blocks():
        np.testing.assert_array_equal(block, x[where])


def test_the_processor_reads_rows_when_they_are_asked_for(source):
    data = train_data(source)
    assert data.tensors == [None] and source.reads == 0
    same_rows(data, source.x)
    assert source.reads > 0


def test_a_device_with_room_holds_them_and_reads_once(source, monkeypatch):
    asked = []
    monkeypatch.setattr(distributed, "has_own_room", lambda *args: asked.append(args) or True)
    data = train_data(source)
    assert asked == [(torch.device("cpu"), 12 * len(source.x))]
    assert source.reads == 2  # blocks
    same_rows(data, source.x)
    assert source.reads == 2


def test_the_processor_has_no_room_of_its_own():
    assert not distributed.has_own_room(torch.device("cpu"), 1)
