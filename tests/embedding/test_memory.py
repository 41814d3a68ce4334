"""Large photographs are decoded a few at a time: the peak of `embed` stays under a stated bound."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data import blocks
from fmcluster.embedding.data.values import decoded_bytes

WIDTH, HEIGHT = 4_000, 3_000  # 12 megapixels, 34 MiB decoded
CODE = """
import resource, sys
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
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
found = fmc.embed(folder, encoder=Means(), folder=store)
print(len(found), peak() - before)
"""


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
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(photographs), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows, mebibytes = ran.stdout.split()[-2:]
    assert rows == "16"
    # Three blocks of two, and one being decoded on each of up to four threads. All at once: 550.
    assert float(mebibytes) < 3 * 72 + 4 * 35


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
