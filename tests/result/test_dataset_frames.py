"""Clusters as columns of the caller's own kind of frame."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fmcluster as fmc
from fmcluster.utils.frames import column_names, column_of, kind_of_frame, to_kind, with_columns


class Letters:
    """How often a text has the letters a and b."""

    modality, fingerprint = "text", "letters-1"

    def encode(self, rows):
        return [[row.count("a") + 0.1, row.count("b") + 0.1] for row in rows]


TEXTS = ["aa", "bb", "ab a", " ", "bbb", "a a"]
KEYS = ["k0", "k1", "k2", "k3", "k4", "k5"]


def made(kind):
    table = pa.table({"key": KEYS, "text": TEXTS})
    if kind == "polars":
        pytest.importorskip("polars")
    return to_kind(table, kind)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    def make(kind, **options):
        cache = tmp_path_factory.mktemp("cache")
        store = fmc.embed(
            made(kind),
            column="text",
            encoder=Letters(),
            on_error="skip",
            cache_dir=cache,
            **options,
        )
        return fmc.cluster(store, n_clusters=2, head="kmeans")

    return make


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_columns_come_back_in_the_callers_kind(kind, results):
    data = made(kind)
    result = results(kind, id_column="key")
    found = result.to_dataset(data)
    assert type(found) is type(data)
    assert column_names(found) == ["key", "text", "cluster", "confidence", "name"]
    clusters = [None if c is pd.NA else c for c in column_of(found, "cluster")]
    assert clusters[3] is None, "a row that was skipped"
    assert [c for c in clusters if c is not None] == result.labels.tolist()
    names = column_of(found, "name")
    assert names[0] == result.names[clusters[0]]
    assert column_names(data) == ["key", "text"], "the given frame is left as it is"
    # By id, whatever the order; a second time replaces the columns.
    order = [5, 0, 2]
    if kind == "pandas":
        some = found.iloc[order]
    else:
        some = found[order] if kind == "polars" else found.take(order)
    again = result.to_dataset(some)
    assert column_of(again, "cluster") == [clusters[i] for i in order]
    assert column_names(again) == ["key", "text", "cluster", "confidence", "name"]


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_the_frame_of_a_result_is_of_the_datas_kind(kind, results):
    result = results(kind, id_column="key")
    assert kind_of_frame(result.frame()) == kind
    assert kind_of_frame(result.frame(kind="arrow")) == "arrow"
    assert column_of(result.frame(), "id") == result.ids.tolist()


def test_row_numbers_and_frames_that_do_not_fit(results):
    result = results("pandas")
    found = result.to_dataset(made("pandas"))
    assert found["cluster"].isna().tolist() == [False, False, False, True, False, False]
    assert str(found["cluster"].dtype) == "Int64"
    with pytest.raises(ValueError, match="dataset has 2 rows, the data of this result had 6"):
        result.to_dataset(made("pandas").head(2))
    named = results("arrow", id_column="key")
    with pytest.raises(ValueError, match="give id_column="):
        named.to_dataset(pa.table({"text": TEXTS}))
    with pytest.raises(ValueError, match="no id in column 'key'"):
        named.to_dataset(pa.table({"key": ["x"], "text": ["y"]}))


def test_other_libraries_get_arrow_back():
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.connect().sql("select * from (values (7, 'a'), (9, 'b')) t(key, text)")
    assert kind_of_frame(relation) == "arrow"
    found = with_columns(relation, {"cluster": pa.array([1, 0])})
    assert isinstance(found, pa.Table) and found.column_names == ["key", "text", "cluster"]
    assert kind_of_frame([1]) is None and kind_of_frame(np.zeros(2)) is None
    with pytest.raises(ValueError, match="no kind of frame"):
        to_kind(found, "excel")


def test_polars_is_not_imported_for_others():
    code = (
        "import sys; sys.modules['polars'] = None\n"
        "import pandas as pd\n"
        "from fmcluster.utils.frames import to_kind, kind_of_frame\n"
        "from fmcluster.utils.errors import MissingExtraError\n"
        "import pyarrow as pa\n"
        "print(kind_of_frame(to_kind(pa.table({'a': [1]}), 'pandas')))\n"
        "try: to_kind(pa.table({'a': [1]}), 'polars')\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["pandas", "kind='polars' needs polars: pip install polars"]


def test_what_is_no_data_set_is_said_so(blobs):
    x, _ = blobs(60, 3)
    result = fmc.cluster(x, n_clusters=3, head="kmeans")
    for bad in (x, None, {"text": ["a"]}, "data.csv"):
        with pytest.raises(TypeError, match="a Dataset or a frame is needed, got"):
            result.to_dataset(bad)
