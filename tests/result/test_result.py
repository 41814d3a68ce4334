"""A result keeps its invariants through saving, calibration, and joining back by id."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fmcluster as fmc
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.utils.errors import CorruptShardError


@pytest.fixture
def data(blobs):
    return blobs(240, 4)


@pytest.fixture
def result(data):
    return fmc.cluster(data[0], n_clusters=4, head="kmeans")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The files of a saved result, those of its folder first."""
    x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    folder = tmp_path_factory.mktemp("run")
    fmc.cluster(x, n_clusters=3, head="kmeans").save(folder)
    fmc.ClusterResult.load(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: (path.parent != folder, path))


def test_saved_and_loaded_it_is_the_same(result, data, tmp_path):
    result.save(tmp_path / "run", metrics=result.evaluate(data[1]))
    again = fmc.ClusterResult.load(tmp_path / "run")
    for name in ("labels", "proba", "confidence", "score", "cluster_prior", "ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    np.testing.assert_array_equal(again.graph.indices, result.graph.indices)
    np.testing.assert_array_equal(again.predict_proba(data[0]), result.predict_proba(data[0]))
    about = json.loads((tmp_path / "run" / "result.json").read_text())
    assert about["metrics"]["acc"] == 1.0
    assert about["n_clusters"] == 4


def test_the_files_are_those_of_the_contract(result, tmp_path):
    import pyarrow.parquet as parquet

    result.save(tmp_path)
    assert np.load(tmp_path / "labels.npy").dtype == np.int64
    assert np.load(tmp_path / "proba.npy").shape == (240, 4)
    assert np.load(tmp_path / "prior.npy").shape == (4,)
    assert (tmp_path / "head" / "model.safetensors").is_file()
    table = parquet.read_table(tmp_path / "clusters.parquet")
    assert table.column_names == ["id", "cluster", "confidence"]
    allowed = {".npy", ".json", ".parquet", ".safetensors", ".md"}
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= allowed


@pytest.mark.parametrize("name", ["labels.npy", "pipeline.safetensors", "head/model.safetensors"])
def test_a_damaged_file_is_named(result, tmp_path, name):
    result.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CorruptShardError, match=path.name):
        fmc.ClusterResult.load(tmp_path)


def test_files_of_two_results_are_not_mixed(result, tmp_path):
    result.save(tmp_path)
    np.save(tmp_path / "labels.npy", result.labels[:10])
    with pytest.raises(CorruptShardError, match="labels.npy.* not of this result"):
        fmc.ClusterResult.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no result"):
        fmc.ClusterResult.load(tmp_path / "nowhere")


def test_a_few_labels_give_a_new_result_with_names(result, data):
    X, y = data
    names = np.array(["ant", "bee", "cat", "dog"])[y]
    rows = np.random.default_rng(0).choice(240, 60, replace=False)
    better = result.calibrate(rows, names[rows])
    np.testing.assert_array_equal(better.labels, result.labels)
    np.testing.assert_array_equal(better.proba.argmax(axis=1), result.labels)
    assert sorted(better.names) == ["ant", "bee", "cat", "dog"]
    assert [better.names[label] for label in result.labels] == names.tolist()
    assert better.provenance["calibration"]["n_labels"] == 60
    assert better.confidence.mean() > 0.9
    assert result.names is None


def test_clusters_without_a_label_are_not_called_as_a_class_may_be(result, data):
    rows = np.flatnonzero(result.labels == 2)[:3]
    names = result.calibrate(rows, [0, 0, 0]).names
    assert names == ("cluster 0", "cluster 1", "0", "cluster 3")


def test_labels_calibrate_a_loaded_result_too(result, data, tmp_path):
    result.save(tmp_path)
    loaded = fmc.ClusterResult.load(tmp_path)
    rows = np.arange(0, 240, 4)
    a, b = loaded.calibrate(rows, data[1][rows]), result.calibrate(rows, data[1][rows])
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-6)
    attached = a.attach(data[0])
    np.testing.assert_allclose(attached.predict_proba(data[0]).max(axis=1), a.confidence, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([0, 999], [1, 2], "not among the 240 rows: 999"),
        ([3, 3], [1, 2], "more than once"),
        ([1, 2, 3], [1, 2], "2 entries for 3 rows"),
        ([], [], "no labeled rows were given"),
    ],
)
def test_wrong_ids_and_labels_are_named(result, ids, labels, message):
    with pytest.raises(ValueError, match=message):
        result.calibrate(ids, labels)


def test_clusters_know_their_rows(result):
    cluster = result.largest(1)[0]
    assert cluster.size == result.sizes.max()
    assert (result.labels[cluster.rows] == cluster.label).all()
    sure = result.confidence[cluster.rows]
    assert (np.diff(sure) <= 0).all()
    np.testing.assert_array_equal(cluster.exemplars(3), cluster.rows[:3])
    np.testing.assert_array_equal(cluster.unsure(2), cluster.rows[::-1][:2])
    assert cluster.name == str(cluster.label)
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        result.cluster(9)


def test_columns_join_back_by_id(result):
    ds = Dataset.from_dict({"value": list(range(240))})
    kept = np.r_[0:100, 110:240]
    part = dataclasses.replace(
        result,
        labels=result.labels[kept],
        proba=result.proba[kept],
        confidence=result.confidence[kept],
        ids=kept,
    )
    with pytest.raises(ValueError, match="give id_column="):  # nothing says what was left out
        part.to_dataset(ds)
    left_out = {**part.provenance, "skipped_ids": list(range(100, 110))}
    part = part.with_pipeline(provenance=left_out)
    out = part.to_dataset(ds)
    assert isinstance(out.features["cluster"], ClassLabel)
    assert out["cluster"][105] is None
    np.testing.assert_array_equal(np.array(out["cluster"])[kept].astype(int), part.labels)
    np.testing.assert_allclose(np.array(out["confidence"])[kept].astype(float), part.confidence)
    with pytest.raises(ValueError, match="50 rows"):
        result.to_dataset(ds.select(range(50)))


def test_ids_of_the_users_own_are_names_and_no_row_numbers(data):
    tickets = np.arange(240)[::-1] + 5
    result = fmc.cluster(EmbeddingStore.from_array(data[0], tickets), n_clusters=4, head="kmeans")
    ds = Dataset.from_dict({"ticket": tickets, "row": list(range(240))})
    with pytest.raises(ValueError, match="names and no row numbers"):
        result.to_dataset(ds)
    shuffled = ds.shuffle(seed=0)
    out = result.to_dataset(shuffled, id_column="ticket")
    rows = np.array(out["row"])
    np.testing.assert_array_equal(out["cluster"], result.labels[rows])
    assert result.rows_of([5, 244]).tolist() == [239, 0]


def test_string_ids_are_kept_through_saving(data, tmp_path):
    names = np.array([f"file {i}.jpg" for i in range(240)])
    result = fmc.cluster(EmbeddingStore.from_array(data[0], names), n_clusters=4, head="kmeans")
    result.save(tmp_path)
    again = fmc.ClusterResult.load(tmp_path)
    np.testing.assert_array_equal(again.ids, names)
    assert again.rows_of(["file 7.jpg"]).tolist() == [7]


def test_repr_says_what_matters(result):
    assert "240 rows, 4 clusters" in repr(result)
    assert "confidence" in repr(result)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_bit_flipped_anywhere_is_noticed(data, whole_run):
    path = data.draw(st.sampled_from(whole_run), label="file")
    content = path.read_bytes()
    where = data.draw(st.integers(0, len(content) - 1), label="byte")
    bit = 1 << data.draw(st.integers(0, 7), label="bit")
    path.write_bytes(content[:where] + bytes([content[where] ^ bit]) + content[where + 1 :])
    try:
        with pytest.raises(CorruptShardError):
            fmc.ClusterResult.load(whole_run[0].parent)
    finally:
        path.write_bytes(content)


SAVERS = """
import os, sys
import fmcluster as fmc
results = [fmc.ClusterResult.load(folder) for folder in sys.argv[2:]]
os.fork()
for _ in range(10_000):
    for result in results:
        result.save(sys.argv[1])
        print(os.getpid(), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_reader_sees_one_save_or_the_other_never_both(data, tmp_path):
    for k in (3, 5):
        fmc.cluster(data[0], n_clusters=k, head="kmeans").save(tmp_path / f"k{k}")
    fmc.ClusterResult.load(tmp_path / "k3").save(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    argv = [sys.executable, "-c", SAVERS, *(str(tmp_path / f) for f in ("run", "k3", "k5"))]
    savers = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        at_work = set()
        while len(at_work) < 2:
            at_work.add(savers.stdout.readline())
        seen = set()
        for _ in range(30):
            again = fmc.ClusterResult.load(tmp_path / "run")
            assert (again.labels == again.proba.argmax(axis=1)).all()
            assert again.head.n_clusters_ == again.proba.shape[1]
            seen.add(again.n_clusters)
    finally:
        os.killpg(savers.pid, signal.SIGKILL)
        savers.wait()
        savers.stdout.close()
    assert seen <= {3, 5}
    assert fmc.ClusterResult.load(tmp_path / "run").n_clusters in seen | {3, 5}
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_things_is_not_written_over(result, tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(ValueError, match="not ours to replace"):
        result.save(tmp_path)
    assert np.load(tmp_path / "labels.npy").tolist() == [0, 1, 2]
