"""Large images inside tables and streams: the peak of a process stays under a stated bound."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers_peak import rise
from PIL import Image

MEBIBYTE = 2**20
# One photograph of 12 megapixels decoded: Pillow takes four bytes a pixel.
PHOTO = 4 * 4_000 * 3_000 / MEBIBYTE
BEFORE = """
import sys
import datasets
import numpy as np
import pyarrow.parquet as pq
import fmcluster as fmc
from fmcluster.embedding.data import batches, blocks
from fmcluster.embedding.data.source import Source
from PIL import Image

class Corner:
    fingerprint = "corner"
    modality = "image"
    def encode(self, rows):
        return np.stack([np.asarray(row.crop((0, 0, 1, 1)), float)[0, 0] for row in rows]) / 255

def stream():
    with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
        for batch in file.iter_batches(1):
            yield from batch.to_pylist()

what, path, folder, block = sys.argv[1:5]
n = pq.read_metadata(path).num_rows
fmc.embed([Image.new("RGB", (9, 9))], encoder=Corner(), folder=folder + "/first")
if what == "report":
    result = fmc.cluster(np.eye(2)[np.arange(n) % 2], n_clusters=2, head="kmeans", calibrate=False)
    result.report(folder + "/small.html")
blocks.BLOCK_BYTES = int(block) * 2**20
batches.READ_BYTES = blocks.BLOCK_BYTES // 16
data = path if what != "stream" else datasets.IterableDataset.from_generator(stream)
"""
MEASURED = """
if what == "report":
    result.report(folder + "/report.html", items=Source(path))
else:
    assert len(fmc.embed(data, encoder=Corner(), folder=folder + "/store", column="image")) == n
"""


def write(path, n_rows, group_rows, side, padding):
    """Write JPEG files with so many bytes behind them to a Parquet file; return MiB of a row."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = io.BytesIO()
    Image.new("RGB", side, (9, 99, 199)).save(file, "JPEG")
    rest = np.random.default_rng(0).bytes(padding)  # that no compression makes smaller
    rows = [{"bytes": file.getvalue() + bytes([row]) + rest, "path": None} for row in range(n_rows)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, type=kind)})
    pq.write_table(table, path, row_group_size=group_rows)
    return len(rows[0]["bytes"]) / MEBIBYTE


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """10 photographs of 12 megapixels and 5 MiB in one row group, which is one page."""
    path = tmp_path_factory.mktemp("photographs") / "rows.parquet"
    return path, write(path, 10, 10, (4_000, 3_000), 5 * MEBIBYTE)


@pytest.mark.parametrize("what", ["embed", "stream", "report"])
def test_photographs_of_one_row_group(what, photographs, tmp_path):
    path, size = photographs
    # Three blocks of one photograph and one more on its way; the page as it lies in the file, as it
    # is unpacked and as Arrow's values. All decoded at once would be 460 MiB beside the page.
    assert rise(BEFORE, MEASURED, what, path, tmp_path, 35) < 4 * PHOTO + 3 * 10 * size


def test_a_file_takes_what_one_row_group_does(tmp_path):
    path = tmp_path / "rows.parquet"
    group = 8 * write(path, 120, 8, (8, 8), 2 * MEBIBYTE)
    assert path.stat().st_size > 15 * group * MEBIBYTE
    # Mapped into memory, or read ahead, the whole file of 240 MiB stood beside the blocks.
    assert rise(BEFORE, MEASURED, "embed", path, tmp_path, 16) < 3 * 16 + 3 * group + 16
