"""Large photographs are decoded a few at a time: the peak of `embed` stays under a stated bound."""

from __future__ import annotations

import contextlib
import io
import tracemalloc

import numpy as np
import pytest
from helpers_peak import rise
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data import batches, blocks
from fmcluster.embedding.data.values import decoded_bytes

WIDTH, HEIGHT = 4_000, 3_000  # 12 megapixels: 34 MiB of RGB, and 46 MiB in Pillow
BEFORE = """
import sys
import numpy as np
import fmcluster as fmc
from fmcluster.embedding.data import blocks, images
from fmcluster.embedding.data.source import Source

class Means:
    fingerprint = "means"
    def encode(self, rows):
        return np.stack([np.asarray(row.resize((4, 4))).reshape(-1) for row in rows]) / 255.0

folder, store = sys.argv[1:3]
images.to_rgb(images.open_image(images.read_regular(folder + "/00.jpg")).resize((8, 8)))
blocks.BLOCK_BYTES = 72 * 2**20  # two of the photographs
"""
MEASURED = "assert len(fmc.embed(folder, encoder=Means(), folder=store)) == 16"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Sixteen photographs of 12 megapixels, as cameras write them."""
    folder = tmp_path_factory.mktemp("photographs")
    x = np.linspace(0, 255, WIDTH)[None, :, None]
    y = np.linspace(0, 1, HEIGHT)[:, None, None]
    first = np.broadcast_to(x * y, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(first).save(folder / "00.jpg", quality=80)
    for number in range(1, 16):
        (folder / f"{number:02d}.jpg").hardlink_to(folder / "00.jpg")
    return folder


def test_photographs_of_12_megapixels_stay_under_the_bound(photographs, tmp_path):
    # Three blocks of two, of four bytes a pixel in Pillow, one being decoded on each of up to four
    # threads, and one in the encoder's hands. All at once: 732.
    assert rise(BEFORE, MEASURED, photographs, tmp_path / "store") < (3 * 2 + 4 + 1) * 46


def test_blocks_hold_so_many_pixels_and_one_row_at_least(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3 * 100)
    sides = [5, 5, 5, 5, 5, 20, 1, 1, 1, 9]
    images = [Image.new("RGB", (side, side), (side, 0, 0)) for side in sides]
    source = fmc.embedding.data.source.Source(images)
    found = list(blocks.decoded_blocks(source, images, 0, most_rows=3))
    assert [len(block.rows) for block in found] == [3, 2, 1, 3, 1]
    assert [block.start for block in found] == [0, 3, 5, 6, 9]
    assert [row.size[0] for block in found for row in block.rows] == sides
    twice = list(blocks.decoded_blocks(source, images, 0, most_rows=3, copies=2))
    assert [len(block.rows) for block in twice] == [2, 2, 1, 1, 3, 1]


def test_what_an_image_takes_is_told_by_its_header(photographs, tmp_path):
    path = photographs / "00.jpg"
    size = 3 * WIDTH * HEIGHT
    assert decoded_bytes(path) == size
    assert decoded_bytes("00.jpg", photographs) == size
    assert decoded_bytes({"bytes": path.read_bytes(), "path": None}) == size
    assert decoded_bytes({"bytes": None, "path": "00.jpg"}, photographs) == size
    assert decoded_bytes(Image.open(path)) == size
    assert decoded_bytes(np.zeros((4, 5, 3), np.uint8)) == 60
    (tmp_path / "cut.jpg").write_bytes(b"no image")
    for row in (
        None,
        tmp_path / "cut.jpg",
        tmp_path / "absent.jpg",
        {"path": "../x", "bytes": None},
    ):
        assert decoded_bytes(row, tmp_path) == 0


def test_embeddings_do_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 255, (12, 12, 3), dtype=np.uint8)) for _ in range(9)]

    class Means:
        fingerprint = "means"

        def encode(self, rows):
            return np.stack([np.asarray(row, np.float32).mean(axis=(0, 1)) for row in rows])

    whole = fmc.embed(images, encoder=Means(), folder=tmp_path / "a")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    single = fmc.embed(images, encoder=Means(), folder=tmp_path / "b")
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(single))
    result = fmc.cluster(whole, n_clusters=2, head="kmeans", calibrate=False)
    np.testing.assert_array_equal(result.predict(images, encoder=Means()), result.labels)


# -- encoded images of a table: a shard of them is not held at once

N_PADDED, PADDING = 64, 2**20


def padded(number):
    """A small image in a file of a megabyte, as one with much that is no pixel."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(file, "PNG")
    return {"bytes": file.getvalue() + number.to_bytes(4, "little") * (PADDING // 4), "path": None}


class Corner:
    fingerprint = "corner"

    def encode(self, rows):
        return np.stack([np.asarray(row, np.float32)[0, 0] for row in rows])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The 64 images as a file of `datasets`."""
    pa = pytest.importorskip("pyarrow")
    from datasets.arrow_writer import ArrowWriter

    path = tmp_path_factory.mktemp("padded") / "rows.arrow"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    with ArrowWriter(path=str(path), schema=pa.schema([("image", kind)])) as out:
        for number in range(N_PADDED):
            out.write({"image": padded(number)})
            if number % 8 == 7:
                out.write_examples_on_file()
        out.finalize()
    return path


@contextlib.contextmanager
def peak():
    """Measure the most that Python objects and Arrow's buffers take in the block, in MiB."""
    import pyarrow as pa

    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    found = {}
    try:
        yield found
        found["python"] = tracemalloc.get_traced_memory()[1] / 2**20
        found["arrow"] = (pool.max_memory() or 0) / 2**20
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def test_encoded_images_of_a_table_stay_under_a_bound(table, tmp_path, monkeypatch):
    from datasets import Dataset

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * PADDING)
    monkeypatch.setattr(batches, "READ_BYTES", 2 * PADDING)
    rows = Dataset.from_file(str(table))
    with peak() as found:
        store = fmc.embed(rows, encoder=Corner(), folder=tmp_path / "store", column="image")
    # A block of eight, what is read ahead, and copies on the way: of 64 that are one shard.
    assert found["python"] < 24 and found["arrow"] < 24, found
    assert len(store) == N_PADDED and store.manifest.header["layout"]["shard_rows"] > N_PADDED
    np.testing.assert_allclose(np.asarray(store)[:, 0], np.arange(N_PADDED))
    pieces = fmc.embedding.data.source.Source(rows).runs(30, [1])
    assert [row["bytes"][-4] for row in next(pieces)[1]] == list(range(30, 60))


def test_batches_grow_while_rows_are_small_and_shrink_with_large_ones(monkeypatch):
    monkeypatch.setattr(batches, "BATCH", 8)
    rows = [b"x" * size for size in [10] * 20 + [2**23] * 9]
    asked = []

    def read(low, high):
        asked.append(high - low)
        return rows[low:high]

    assert list(batches.in_batches(read, 0, len(rows))) == rows
    assert asked == [1, 2, 4, 8, 8, 5, 1]
    assert batches.held_bytes({"bytes": b"abc"}) == 3 and batches.held_bytes(None) == 0
    assert batches.held_bytes(Image.new("L", (4, 5))) == 60
    assert batches.held_bytes(np.zeros((2, 3), np.uint8)) == 6
