"""EmbeddingStore: indexing like numpy, damage found and named, round trips without loss."""

from __future__ import annotations

import json
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcluster.embedding.store.manifest import (
    ShardRecord,
    array_keys,
    differences,
    read_manifest,
    shard_path,
)
from fmcluster.embedding.store.sharded import ShardedArray
from fmcluster.embedding.store.store import EmbeddingStore, cast
from fmcluster.embedding.store.writer import prepare, write_shard
from fmcluster.utils.errors import CorruptShardError, DataError, StoreMismatchError
from fmcluster.utils.files import stable_hash


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)


@pytest.fixture
def saved(X, tmp_path):
    """A store of four shards, the last one short."""
    return EmbeddingStore.from_array(X).save(tmp_path / "store", shard_rows=300)


def rewrite(path, change):
    """Edit a manifest as a careless or hostile hand would, its digest put right."""
    body = json.loads(path.read_text())
    body.pop("digest")
    change(body)
    path.write_text(json.dumps({**body, "digest": stable_hash(body)}))


# --- behaves as an array -------------------------------------------------------------------------


def test_store_behaves_as_its_first_space(saved, X):
    assert saved.shape == (1000, 8) and len(saved) == 1000 and saved.dtype == np.float32
    assert np.array_equal(np.asarray(saved), X)
    assert np.array_equal(np.asarray(saved, dtype=np.float64), X.astype(np.float64))
    assert np.array_equal(saved[250:650], X[250:650])
    assert saved.spaces == ("embedding",) and saved.views() == []
    assert np.array_equal(saved.ids, np.arange(1000)) and saved.ids.dtype == np.int64
    assert repr(saved).startswith("EmbeddingStore(1,000 rows, embedding: 8, float32, in ")


def test_indices_cross_shards_in_any_order(saved, X):
    space = saved.space()
    rng = np.random.default_rng(1)
    for rows in (
        rng.integers(-1000, 1000, 500),
        [999, 0, 300, 299, 300],
        rng.random(1000) < 0.3,
        np.array([], dtype=int),
        slice(None, None, -7),
        slice(900, 100),
        slice(-5, None),
        Ellipsis,
    ):
        assert np.array_equal(space[rows], X[rows])
    assert np.array_equal(space[-1], X[-1]) and space[299].shape == (8,)
    assert space[301, 2] == X[301, 2]
    assert np.array_equal(space[10:20, 1:3], X[10:20, 1:3])
    assert np.array_equal(space[..., 0], X[..., 0])


@pytest.mark.parametrize("rows", [1000, -1001, [1000], [-1001], [[1]], [0.5], np.ones(3, bool)])
def test_indices_out_of_bounds_are_refused(saved, rows):
    with pytest.raises(IndexError):
        saved.space()[rows]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_sharding_and_any_index_agree_with_numpy(data, tmp_path_factory):
    sizes = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(sum))
    whole = np.arange(sum(sizes) * 3, dtype=np.float32).reshape(-1, 3)
    folder = tmp_path_factory.mktemp("shards")
    starts = np.cumsum([0, *sizes])
    paths = [folder / f"{i}.npy" for i in range(len(sizes))]
    for path, low, size in zip(paths, starts, sizes, strict=False):
        np.save(path, whole[low : low + size])
    array = ShardedArray(paths, sizes, 3, np.float32)
    n = len(whole)
    bound = st.none() | st.integers(-n - 2, n + 2)
    piece = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, -1])))
    rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=20))
    assert np.array_equal(array[piece], whole[piece])
    assert np.array_equal(array[rows], whole[np.array(rows, dtype=int)])
    assert np.array_equal(np.asarray(array), whole)


def test_answers_are_writable_copies(saved, X):
    block = saved[0:10]
    block[:] = 0
    assert np.array_equal(saved[0:10], X[:10])
    with pytest.raises(ValueError, match="copy"):
        np.asarray(saved.space(), copy=False)


def test_threads_read_one_store(saved, X, monkeypatch):
    monkeypatch.setattr(
        "fmcluster.embedding.store.sharded.RESIDENT_BYTES", 1
    )  # every read gives pages back
    monkeypatch.setattr("fmcluster.embedding.store.sharded.MOST_MAPS", 2)  # and maps shards anew
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            rows = rng.integers(0, 1000, 64)
            if not np.array_equal(saved[rows], X[rows]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's own account")
def test_reading_does_not_keep_the_store_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fmcluster.embedding.store.sharded.RESIDENT_BYTES", 8 * 2**20)
    ones = np.ones((160_000, 128), np.float32)
    store = EmbeddingStore.from_array(ones).save(tmp_path / "s", shard_rows=8_000)
    del ones

    def resident():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

    before = resident()
    for start in range(0, len(store), 1000):
        assert store[start : start + 1000].all()
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert store[rng.integers(0, len(store), 200)].all()
    assert resident() - before < 30_000, "of 80,000 kB read twice over"


def test_file_handles_are_not_leaked(saved, X):
    np.asarray(saved)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(100):
        again = EmbeddingStore.open(saved.folder)
        assert again[999, 0] == X[999, 0]
        again.space().release()
        again.close()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before + 1


def test_store_travels_to_worker_processes(saved, X):
    saved[0:5]
    assert np.array_equal(pickle.loads(pickle.dumps(saved))[5:9], X[5:9])


# --- made from arrays ----------------------------------------------------------------------------


def test_from_array_copies_nothing_and_keeps_float_types(X):
    for dtype in (np.float16, np.float32, np.float64):
        given_array = X.astype(dtype)
        store = EmbeddingStore.from_array(given_array)
        assert store.space() is given_array and store.dtype == dtype
    assert EmbeddingStore.from_array(np.arange(6).reshape(3, 2)).dtype == np.float32
    assert EmbeddingStore.from_array([[1.0, 2.0]]).shape == (1, 2)


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (np.zeros(3), ValueError, r"shape \(3,\)"),
        (np.zeros((0, 3)), ValueError, r"shape \(0, 3\)"),
        (np.array([["a"]]), TypeError, "numeric"),
        ({}, ValueError, "no spaces"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((3, 2))}, ValueError, "'a': 2, 'b': 3"),
    ],
)
def test_from_array_says_what_is_wrong(bad, error, says):
    with pytest.raises(error, match=says):
        EmbeddingStore.from_array(bad)


def test_rows_that_are_not_finite_are_named_by_id(X):
    X[7, 0], X[9, 3] = np.nan, np.inf
    ids = [f"row-{i}" for i in range(1000)]
    with pytest.raises(ValueError, match=r"2 row\(s\): row-7, row-9"):
        EmbeddingStore.from_array(X, ids=ids)


def test_ids_are_checked(X):
    with pytest.raises(DataError, match="3 ids were given for 1000 rows"):
        EmbeddingStore.from_array(X, ids=[1, 2, 3])
    with pytest.raises(DataError, match="the first is 'a'"):
        EmbeddingStore.from_array(X[:3], ids=["a", "b", "a"])
    with pytest.raises(DataError, match="integer or string"):
        EmbeddingStore.from_array(X[:2], ids=[0.5, 1.5])
    assert EmbeddingStore.from_array(X[:2], ids=[7, 3]).ids.tolist() == [7, 3]


def test_fingerprint_of_arrays_follows_values_and_ids(X):
    first = EmbeddingStore.from_array(X).fingerprint
    assert first == EmbeddingStore.from_array(X.copy()).fingerprint
    assert first != EmbeddingStore.from_array(X + 1e-3).fingerprint
    assert first != EmbeddingStore.from_array(X, ids=np.arange(1, 1001)).fingerprint


def test_several_spaces_and_string_ids_survive_the_disk(X, tmp_path):
    ids = np.array([f"é\n{i}" for i in range(1000)])
    store = EmbeddingStore.from_array({"clip/x": X, "tfidf": X[:, :3]}, ids=ids)
    back = store.save(tmp_path / "s", dtype="float16", shard_rows=333)
    assert back.spaces == ("clip/x", "tfidf") and back.dtype == np.float16
    assert np.array_equal(back.ids, ids)
    assert np.array_equal(back.space("tfidf")[:], X[:, :3].astype(np.float16))
    with pytest.raises(ValueError, match="space='dino' is not known"):
        back.space("dino")


def test_cast_names_rows_beyond_float16():
    values = np.array([[1.0], [1e5]], dtype=np.float32)
    with pytest.raises(ValueError, match="first is id 42: use dtype='float32'"):
        cast(values, "float16", np.array([41, 42]))
    with pytest.raises(ValueError, match="NaN or infinite.*41"):
        cast(np.array([[np.nan], [1.0]]), "float32", np.array([41, 42]))


# --- the folder: whole, verified, refused ---------------------------------------------------------


def test_equal_content_gives_equal_bytes(X, saved, tmp_path):
    other = EmbeddingStore.from_array(X).save(tmp_path / "other", shard_rows=300)
    for path in sorted(saved.folder.iterdir()):
        assert path.read_bytes() == (other.folder / path.name).read_bytes()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_store_comes_back_from_the_disk_as_it_was(data, tmp_path_factory):
    n = data.draw(st.integers(1, 40), label="rows")
    rng = np.random.default_rng(data.draw(st.integers(0, 99), label="seed"))
    widths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3), label="widths")
    dtype = data.draw(st.sampled_from(["float16", "float32"]), label="dtype")
    spaces = {f"space {i}/é": rng.normal(size=(n, d)).astype(dtype) for i, d in enumerate(widths)}
    name = st.text(max_size=6).filter(lambda text: not text.endswith("\0"))
    names = st.lists(name, min_size=n, max_size=n, unique=True)
    numbers = st.lists(st.integers(-(2**62), 2**62), min_size=n, max_size=n, unique=True)
    ids = data.draw(st.none() | names | numbers, label="ids")
    rows = data.draw(st.integers(1, n + 2), label="shard_rows")
    store = EmbeddingStore.from_array(spaces, ids=ids)
    folder = tmp_path_factory.mktemp("any") / "s"
    back = store.save(folder, dtype=dtype, shard_rows=rows)
    again = EmbeddingStore.open(folder)
    again.verify()
    assert again.ids.tolist() == (list(range(n)) if ids is None else ids)
    for name, values in spaces.items():
        assert np.array_equal(back.space(name)[:], values)
        assert np.array_equal(again.space(name)[::-1], values[::-1])


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_bit_flipped_anywhere_is_noticed_or_does_no_harm(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flip") / "s"
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    EmbeddingStore.from_array(X).save(folder, shard_rows=7)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, max(0, len(content) - 1)), label="byte")
    if not content:
        return
    content[where] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    path.write_bytes(bytes(content))
    try:
        back = EmbeddingStore.open(folder)
        back.verify()
    except CorruptShardError:
        return
    assert np.array_equal(np.asarray(back), X) and np.array_equal(back.ids, np.arange(20))


def test_save_again_is_a_no_op_and_other_data_is_refused(saved, X):
    stamp = (saved.folder / "manifest.json").stat().st_mtime_ns
    EmbeddingStore.from_array(X).save(saved.folder)
    assert (saved.folder / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(StoreMismatchError, match="data.fingerprint: stored '.*', asked '.*'"):
        EmbeddingStore.from_array(X + 1).save(saved.folder)
    with pytest.raises(StoreMismatchError, match="settings.dtype: stored 'float32', asked 'floa"):
        EmbeddingStore.from_array(X).save(saved.folder, dtype="float16")


def test_differences_are_listed_field_by_field():
    stored = {"encoders": [{"name": "a", "fingerprint": {"pooling": "mean", "x": 1}}]}
    asked = {"encoders": [{"name": "a", "fingerprint": {"pooling": "cls", "x": 1, "y": 2}}]}
    assert differences(stored, asked) == [
        "encoders[0].fingerprint.pooling: stored 'mean', asked 'cls'",
        "encoders[0].fingerprint.y: stored '(nothing)', asked 2",
    ]
    assert differences(stored, {**stored, "layout": {"shard_rows": 3}}) == []


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(bytes(data))


def remove(path):
    path.unlink()


def other_dtype(path):
    array = np.load(path)
    np.save(path, array.astype(np.float64))


def other_shape(path):
    np.save(path, np.load(path).T.copy())


def huge_header(path):
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(300, 8)", b"(9**9,8)"))


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "harm", [truncate, flip, remove, other_dtype, other_shape, huge_header, pickled]
)
def test_verify_names_the_damaged_shard_and_the_remedy(saved, harm):
    saved.verify()
    harm(saved.folder / "space0-00002.npy")
    with pytest.raises(CorruptShardError, match=r"space0-00002\.npy.*repair=True"):
        saved.verify()


@pytest.mark.parametrize("harm", [truncate, remove, other_dtype, pickled])
def test_open_refuses_shards_of_another_size(saved, harm):
    harm(saved.folder / "space0-00001.npy")
    with pytest.raises(CorruptShardError, match=r"space0-00001\.npy"):
        EmbeddingStore.open(saved.folder)


@pytest.mark.parametrize("harm", [truncate, remove, other_shape, other_dtype, pickled, huge_header])
def test_reading_a_shard_damaged_after_opening_is_a_typed_error(saved, harm):
    harm(saved.folder / "space0-00000.npy")
    saved.close()
    with pytest.raises(CorruptShardError, match=r"space0-00000\.npy"):
        saved[0:3]


def test_damaged_ids_are_found(saved):
    flip(saved.folder / "ids-00003.npy")
    with pytest.raises(CorruptShardError, match=r"ids-00003\.npy does not match its checksum"):
        saved.verify()
    remove(saved.folder / "ids-00003.npy")
    with pytest.raises(CorruptShardError, match=r"ids-00003\.npy is missing"):
        _ = saved.ids


def test_edited_or_broken_manifest_is_refused(saved):
    manifest = saved.folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"rows": 300', '"rows": 299', 1))
    with pytest.raises(CorruptShardError, match="manifest.json does not match its own digest"):
        EmbeddingStore.open(saved.folder)
    manifest.write_text(text[:100])
    with pytest.raises(CorruptShardError, match="not valid JSON"):
        EmbeddingStore.open(saved.folder)
    manifest.write_text("[]")
    with pytest.raises(CorruptShardError, match="digest"):
        EmbeddingStore.open(saved.folder)


def test_resealed_hostile_manifests_are_refused(saved):
    manifest = saved.folder / "manifest.json"
    text = manifest.read_text()

    def names_outside(body):
        for shard in body["shards"]:
            shard["files"]["../../secret"] = shard["files"].pop("space0")

    def no_spaces(body):
        body["encoders"] = []

    def no_rows(body):
        del body["shards"][0]["rows"]

    def newer(body):
        body["schema"] = 99

    def wild_dtype(body):
        body["settings"]["dtype"] = "O"

    for change in (names_outside, no_spaces, no_rows, newer, wild_dtype):
        manifest.write_text(text)
        rewrite(manifest, change)
        with pytest.raises(CorruptShardError):
            EmbeddingStore.open(saved.folder)
    for key in ("../x", "space0/../../x", "", "space0.view", "manifest"):
        with pytest.raises(CorruptShardError, match="not one of a store"):
            shard_path(saved.folder, key, 0)


def test_unfinished_and_foreign_folders(tmp_path, X):
    with pytest.raises(FileNotFoundError, match="no manifest.json"):
        EmbeddingStore.open(tmp_path)
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(FileExistsError, match="thesis.docx"):
        EmbeddingStore.from_array(X).save(tmp_path)
    header = {
        "data": {},
        "encoders": [{"name": "a", "fingerprint": {}}],
        "settings": {"dtype": "float32", "n_views": 0},
        "layout": {"shard_rows": 10},
    }
    manifest = prepare(tmp_path / "s", header)
    arrays = {"ids": np.arange(3), "space0": X[:3]}
    write_shard(tmp_path / "s", manifest, 0, arrays, ShardRecord())
    with pytest.raises(CorruptShardError, match="unfinished"):
        EmbeddingStore.open(tmp_path / "s")


def test_array_keys_cover_spaces_and_views():
    assert array_keys(1, 2) == ["ids", "space0", "space0.view0", "space0.view1"]
    assert array_keys(2, 0) == ["ids", "space0", "space1"]


def test_nothing_is_pickled(saved):
    assert {p.suffix for p in saved.folder.iterdir() if p.name != ".lock"} == {".npy", ".json"}
    for path in saved.folder.glob("*.npy"):
        np.load(path, allow_pickle=False)
    assert read_manifest(saved.folder).complete


def test_stores_of_every_schema_so_far_open():
    """The folders are kept as they were written; a new schema adds one and removes none."""
    store = EmbeddingStore.open(Path(__file__).parent / "stores" / "schema1")
    store.verify()
    assert store.ids.tolist() == ["w", "x", "y", "z"] and store.bad_ids == ["x"]
    assert np.asarray(store).tolist() == [[1, 1], [0, 0], [6, 3], [6, 0]]
    assert store.encoders == {"tiny": {"encoder": "tiny"}} and store.dtype == np.float16


# --- to and from others ---------------------------------------------------------------------------


def test_to_dataset_shares_memory_and_comes_back(X):
    store = EmbeddingStore.from_array(
        {"embedding": X, "small": X[:, :2].copy()}, ids=range(5, 1005)
    )
    ds = store.to_dataset()
    assert ds.column_names == ["id", "embedding", "small"] and ds[3]["id"] == 8
    values = ds.data.table.column("embedding").chunk(0).flatten()
    assert (
        values.to_numpy(zero_copy_only=True).__array_interface__["data"][0]
        == (X.__array_interface__["data"][0])
    )
    back = EmbeddingStore.from_dataset(ds, "embedding", id_column="id")
    assert np.array_equal(np.asarray(back), X) and np.array_equal(back.ids, store.ids)


def test_to_dataset_of_shards_keeps_ids_through_shuffle_and_filter(saved, X):
    ds = saved.to_dataset().shuffle(seed=0).filter(lambda row: row["id"] % 3 == 0)
    assert len(ds) == 334
    for row in ds.select(range(20)):
        assert np.array_equal(np.asarray(row["embedding"], np.float32), X[row["id"]])
    back = EmbeddingStore.from_dataset(ds, "embedding", id_column="id")
    assert np.array_equal(np.asarray(back), X[back.ids])


def test_from_dataset_says_what_is_wrong():
    import datasets

    ds = datasets.Dataset.from_dict({"v": [[1.0, 2.0], [3.0]], "t": ["a", "b"], "n": [None, [1.0]]})
    with pytest.raises(DataError, match="no column 'w': the dataset has v, t, n"):
        EmbeddingStore.from_dataset(ds, "w")
    with pytest.raises(DataError, match="one length"):
        EmbeddingStore.from_dataset(ds, "v")
    with pytest.raises(DataError, match="holds string"):
        EmbeddingStore.from_dataset(ds, "t")
    with pytest.raises(DataError, match="1 missing"):
        EmbeddingStore.from_dataset(ds, "n")


def test_from_npy_folder_reads_the_clip_retrieval_layout(tmp_path):
    import pandas as pd

    X = np.random.default_rng(0).normal(size=(110, 4)).astype(np.float16)
    for kind in ("img_emb", "text_emb", "metadata"):
        (tmp_path / kind).mkdir()
    for part in range(11):  # part 10 must follow part 9, not part 1
        rows = slice(part * 10, part * 10 + 10)
        np.save(tmp_path / f"img_emb/img_emb_{part}.npy", X[rows])
        np.save(tmp_path / f"text_emb/text_emb_{part}.npy", -X[rows])
        frame = pd.DataFrame({"image_path": [f"p{i}" for i in range(110)][rows]})
        frame.to_parquet(tmp_path / f"metadata/metadata_{part}.parquet")
    store = EmbeddingStore.from_npy_folder(tmp_path, id_column="image_path")
    assert store.spaces == ("img_emb", "text_emb")
    assert np.array_equal(np.asarray(store.space("img_emb")), X) and store.ids[100] == "p100"
    with pytest.raises(TypeError, match=r"2 spaces \(img_emb, text_emb\).*store.space\(name\)"):
        np.asarray(store)
    assert np.array_equal(store.space("text_emb")[[105, 3]], -X[[105, 3]])
    one = EmbeddingStore.from_npy_folder(tmp_path / "img_emb")
    assert one.spaces == ("img_emb",) and one.ids.tolist() == list(range(110))
    with pytest.raises(DataError, match="no column 'url'.*image_path"):
        EmbeddingStore.from_npy_folder(tmp_path, id_column="url")
    with pytest.raises(DataError, match="holds no embeddings"):
        EmbeddingStore.from_npy_folder(tmp_path / "metadata")
    np.save(tmp_path / "img_emb/img_emb_3.npy", X[:5, :2])
    with pytest.raises(DataError, match=r"img_emb_3.npy has shape \(5, 2\)"):
        EmbeddingStore.from_npy_folder(tmp_path)


def test_tensors_of_any_kind_become_rows():
    import torch

    X = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    for tensor in (X.bfloat16(), X.clone().requires_grad_(), list(X), [list(row) for row in X]):
        assert np.asarray(EmbeddingStore.from_array(tensor)).tolist() == X.tolist()


def test_64_bit_hashes_as_ids_stay_themselves(tmp_path):
    ids = np.array([2**63 + 5, 7], np.uint64)
    store = EmbeddingStore.from_array(np.eye(2), ids).save(tmp_path / "s")
    assert store.ids.tolist() == ["9223372036854775813", "7"]
    given = EmbeddingStore.from_array(np.eye(2), [-1, 2**63])
    assert given.ids.tolist() == ["-1", "9223372036854775808"]
    with pytest.raises(DataError, match="1 row id.* missing, the first in row 1"):
        EmbeddingStore.from_array(np.eye(2), ["a", None])


def test_a_living_writers_temporary_files_stay(tmp_path):
    import subprocess
    import sys

    from fmcluster.embedding.store.writer import remove_leftovers
    from fmcluster.utils.files import machine_id

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".a.npy.{machine_id()}-{pid}-0123abcd.tmp" for pid in (os.getpid(), dead.pid)]
    for name in (*names, ".old.tmp", ".b.npy.00000000-1-0123abcd.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == sorted([names[0], ".b.npy.00000000-1-0123abcd.tmp"])


def test_two_savers_of_one_store_leave_it_whole(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    X = np.random.default_rng(0).normal(size=(200, 8))
    store = EmbeddingStore.from_array(X)
    for attempt in range(5):
        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(store.save, tmp_path / str(attempt), shard_rows=10) for _ in range(2)
            ]
            for job in jobs:
                job.result().verify()
        assert np.allclose(np.asarray(EmbeddingStore.open(tmp_path / str(attempt))), X, atol=1e-6)
