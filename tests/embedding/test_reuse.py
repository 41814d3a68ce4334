"""Data that grew, shrank or moved: only content that no earlier store holds is encoded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from fmcluster.embedding import reuse
from fmcluster.embedding.embed import embed_to_store, stores_folder
from fmcluster.embedding.encoders.base import TorchEncoder
from fmcluster.embedding.reuse import Known, digests_of, known_rows
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.utils.errors import CorruptShardError, StoreMismatchError

TEXTS = [f"text number {i}" for i in range(50)]


class Counting:
    """Embeddings of the content alone; remembers every row it was given."""

    def __init__(self, name="counting", modality="text", dim=6):
        self.modality, self.dim, self.width, self.seen = modality, None, dim, []
        self.fingerprint, self.spec = {"encoder": name, "dim": dim}, {"encoder": name}

    def encode(self, rows):
        self.seen += rows
        contents = [r.encode() if isinstance(r, str) else r.tobytes() for r in rows]
        seeds = [int.from_bytes(hashlib.sha256(c).digest()[:8], "little") for c in contents]
        return np.array(
            [np.random.default_rng(s).standard_normal(self.width) for s in seeds], np.float32
        )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def embed(rows, encoder=None, **options):
    """Return the store, and what the encoder was asked."""
    encoder = encoder or Counting()
    return embed_to_store(rows, encoder, **options), encoder.seen


def arrays(store):
    """Bytes of every array file of a store, the digests among them."""
    return {p.name: p.read_bytes() for p in sorted(store.folder.glob("*.npy"))}


def test_grown_shrunk_and_moved_rows_are_not_encoded_again():
    first, seen = embed(TEXTS)
    assert seen == TEXTS and first.n_reused == 0 and first.reused == {}
    moved = [TEXTS[i] for i in np.random.default_rng(0).permutation(50)]
    for rows, new, n_reused in (
        ([*TEXTS, "new a", "new b"], ["new a", "new b"], 50),
        (TEXTS[10:30], [], 20),
        (moved, [], 50),
        (["front", *moved[:7], "back"], ["front", "back"], 7),
        ([TEXTS[3]] * 4 + ["other"] * 2, ["other", "other"], 4),
        ([*TEXTS[:49], "text number 49 "], ["text number 49 "], 49),
    ):
        store, seen = embed(rows, shard_rows=13)
        assert seen == new and store.n_reused == n_reused
        assert store.ids.tolist() == list(range(len(rows)))
        store.verify()
        assert np.array_equal(np.asarray(store), Counting().encode(rows).astype(np.float16))


def test_bytes_are_those_of_encoding_everything(tmp_path):
    embed(TEXTS)
    rows = [*TEXTS[20:], "new", *TEXTS[:5]]
    reused, _ = embed(rows, shard_rows=8)
    whole, seen = embed(rows, folder=tmp_path / "whole", shard_rows=8, reuse=False)
    assert seen == rows and reused.n_reused == 35 and whole.n_reused == 0
    assert arrays(reused) == arrays(whole)
    assert reused.fingerprint == whole.fingerprint
    manifest = json.loads((reused.folder / "manifest.json").read_text())
    assert [shard["reused"] for shard in manifest["shards"]][0] == {"space0": 8}


def test_another_encoder_type_or_modality_reuses_nothing():
    embed(TEXTS)
    assert embed(TEXTS[:9], Counting(dim=7))[1] == TEXTS[:9]
    assert embed(TEXTS[:9], Counting("other"))[1] == TEXTS[:9]
    assert embed(TEXTS[:9], dtype="float32")[1] == TEXTS[:9]


def test_spaces_are_reused_by_encoder_whatever_their_order():
    embed_to_store(TEXTS, [Counting("a"), Counting("b", dim=3)])
    both = [Counting("c"), Counting("b", dim=3)]
    store = embed_to_store([*TEXTS, "x"], both)
    assert both[0].seen == [*TEXTS, "x"] and both[1].seen == ["x"]
    assert store.reused == {"b": 50} and store.n_reused == 50
    expected = Counting("b", dim=3).encode([*TEXTS, "x"]).astype(np.float16)
    assert np.array_equal(store.space("b")[:], expected)


def test_encoders_fitted_on_the_data_are_fitted_again(tmp_path):
    from fmcluster.embedding.encoders import resolve

    texts = [f"word{i % 7} word{i % 5} word{i % 3}" for i in range(40)]
    embed_to_store(texts, [Counting(), resolve("tfidf")])
    more = [*texts, "word1 of quite another kind", "another kind again"]
    store = embed_to_store(more, [Counting(), resolve("tfidf")])
    options = {"folder": tmp_path / "whole", "reuse": False}
    whole = embed_to_store(more, [Counting(), resolve("tfidf")], **options)
    assert store.reused == {"counting": 40} and whole.reused == {}
    assert arrays(store) == arrays(whole)


def test_views_are_made_anew_and_the_clean_rows_are_copied():
    embed(TEXTS, n_views=1)
    store, seen = embed(TEXTS[::-1], n_views=1)
    assert store.n_reused == 50 and len(seen) == 50 and not set(seen) >= set(TEXTS)
    assert not np.array_equal(store.views()[0][:], store[:])


def test_encoders_that_nothing_identifies_are_never_reused(caplog):
    class Bare:
        def __init__(self):
            self.calls = 0
            self.secret = object()

        def encode(self, rows):
            self.calls += len(rows)
            return np.ones((len(rows), 2)) * self.calls

    bare = Bare()
    embed_to_store(TEXTS, bare)
    embed_to_store(TEXTS, bare)
    assert bare.calls == 100


def test_unreadable_rows_are_no_content():
    rows = ["", "a", "b", None]
    marked, _ = embed(rows, on_error="mark")
    assert not np.load(marked.folder / "content-00000.npy")[[0, 3]].any()
    store, seen = embed(["", "b", "c"], on_error="mark")
    assert seen == ["c"] and store.bad_ids == [0] and store.n_reused == 1
    assert not store[0].any() and np.array_equal(store[1], marked[2])
    skipped, seen = embed(["c", "", "a"], on_error="skip")
    assert seen == [] and skipped.ids.tolist() == [0, 2] and skipped.n_reused == 2
    assert np.array_equal(skipped[1], marked[1])


def test_images_are_known_by_what_the_encoder_sees(tmp_path):
    generator = np.random.default_rng(0)
    pictures = [
        Image.fromarray(generator.integers(0, 255, (5, 5, 3), dtype=np.uint8)) for _ in range(4)
    ]
    embed(pictures, Counting(modality="image"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(pictures[:2]):
        picture.convert("RGBA").save(folder / f"{number}.png")
    Image.new("RGB", (5, 5)).save(folder / "2.png")
    store, seen = embed(folder, Counting(modality="image"))
    assert (
        len(seen) == 1
        and store.n_reused == 2
        and store.ids.tolist() == list(["0.png", "1.png", "2.png"])
    )
    assert len({bytes(d) for d in digests_of([*pictures, pictures[0].resize((1, 25))])}) == 5


def test_a_store_elsewhere_is_named(tmp_path):
    first, _ = embed(TEXTS, folder=tmp_path / "first")
    assert embed(TEXTS[:5])[1] == TEXTS[:5]  # folders of one's own are not searched unasked
    for given in (first, tmp_path / "first", [str(tmp_path / "first")]):
        target = tmp_path / f"second{type(given).__name__}"
        store, seen = embed([*TEXTS[::-1], "x"], folder=target, reuse=given)
        assert seen == ["x"] and store.n_reused == 50
    with pytest.raises(FileNotFoundError, match="is not an embedding store"):
        embed(TEXTS, folder=tmp_path / "third", reuse=tmp_path / "nothing")
    for given in (0, None, [3], EmbeddingStore.from_array(np.eye(2))):
        with pytest.raises(TypeError, match=r"reuse=.* must be True, False, or folders of stores"):
            embed(TEXTS, folder=tmp_path / "third", reuse=given)
    assert not (tmp_path / "third").exists()
    with pytest.raises(StoreMismatchError, match=r"another folder \(with reuse= this one, only"):
        embed([*TEXTS, "x"], folder=tmp_path / "first")
    assert embed([*TEXTS, "y"], folder=tmp_path / "fourth")[1] == [*TEXTS[5:], "y"]


def test_unfinished_damaged_and_foreign_stores_are_no_source(tmp_path, monkeypatch):
    first, _ = embed(TEXTS, shard_rows=10)
    path = first.folder / "space0-00002.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    digests = first.folder / "content-00004.npy"
    digests.write_bytes(digests.read_bytes()[:-1] + b"\0")
    (first.folder / "space0-00001.npy").unlink()
    store, seen = embed(TEXTS[::-1])
    assert sorted(seen) == sorted(TEXTS[10:30] + TEXTS[40:]) and store.n_reused == 20
    for each in stores_folder().iterdir():
        (each / "manifest.json").write_text("{}")
    assert len(embed(TEXTS[1:])[1]) == 49
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert len(embed(TEXTS[2:])[1]) == 48


def test_stores_of_before_the_digests_stay_readable(tmp_path):
    store, _ = embed(TEXTS)
    kept = store.save(tmp_path / "kept")
    assert not list(kept.folder.glob("content-*")) and kept.n_reused == 0
    kept.verify()
    assert embed(TEXTS[1:], reuse=kept, cache_dir=tmp_path / "other")[1] == TEXTS[1:]


def test_interrupted_between_copied_and_encoded_rows_resumes(tmp_path):
    embed(TEXTS)

    class Stops(Counting):
        def encode(self, rows):
            if "new 30" in rows:
                raise KeyboardInterrupt
            return super().encode(rows)

    rows = [*TEXTS, *(f"new {i}" for i in range(40))]
    with pytest.raises(KeyboardInterrupt):
        embed(rows, Stops(), shard_rows=20)
    unfinished = next(
        f
        for f in stores_folder().iterdir()
        if not json.loads((f / "manifest.json").read_text())["complete"]
    )
    with pytest.raises(CorruptShardError, match="unfinished: reuse= takes whole ones"):
        embed(TEXTS, Counting("b"), reuse=unfinished)
    store, seen = embed(rows, shard_rows=20)
    assert seen == [f"new {i}" for i in range(30, 40)] and store.folder == unfinished
    assert store.n_reused == 50
    whole, _ = embed(rows, folder=tmp_path / "whole", shard_rows=20, reuse=False)
    assert arrays(store) == arrays(whole)
    assert embed(rows)[1] == []


def test_repair_encodes_and_does_not_copy():
    embed(TEXTS)
    store, _ = embed(TEXTS[1:])
    (store.folder / "space0-00000.npy").unlink()
    again, seen = embed(TEXTS[1:], repair=True)
    assert len(seen) == 49 and again.n_reused == 0


def test_texts_that_are_cut_are_counted_where_they_are_copied(caplog):
    class Cutting(Counting):
        def __init__(self):
            super().__init__("cutting")
            self.truncated = 0
            self.fingerprint["truncation"] = 12

        def count_truncated(self, rows):
            self.truncated += sum(len(row) > 12 for row in rows)

        def encode(self, rows):
            self.count_truncated(rows)
            return super().encode(rows)

    first, _ = embed(TEXTS, Cutting())
    assert first.truncated == {"cutting": 50}
    with caplog.at_level(logging.WARNING):
        store, seen = embed([*TEXTS[:20], "short"], Cutting())
    assert seen == ["short"] and store.truncated == {"cutting": 20}
    assert "20 of 21 texts are longer" in caplog.text


def test_the_real_text_encoders_count_without_encoding():
    from fmcluster.embedding.encoders.texts.batches import LengthBatched

    class Cuts(LengthBatched):
        def prepare(self, rows):
            self.truncated += len(rows)
            return rows, None

    encoder = Cuts.__new__(Cuts)
    encoder.count_truncated(["a", "b"])
    assert encoder.truncated == 2 and issubclass(Cuts, TorchEncoder)


def test_streams_copy_too():
    import datasets

    embed(TEXTS)
    stream = datasets.Dataset.from_dict({"text": [*TEXTS[5:], "x"]}).to_iterable_dataset()
    store, seen = embed(stream)
    assert seen == ["x"] and store.n_reused == 45


def test_known_rows_travel_and_bound_what_they_look_at(tmp_path, monkeypatch):
    from fmcluster.embedding import reuse

    for number in range(3):
        embed([f"{number}", "all"])
    header = EmbeddingStore.open(next(stores_folder().iterdir())).manifest.header
    found = known_rows(header, [Counting()], target=tmp_path / "t", cache=stores_folder())
    assert len(found[0].shards) == 3
    copy = pickle.loads(pickle.dumps(found[0]))
    mask, values = copy.find(digests_of(["1", "nowhere", "all"]))
    assert mask.tolist() == [True, False, True]
    assert np.array_equal(values, Counting().encode(["1", "all"]).astype(np.float16))
    assert [part is None for part in copy.find(digests_of([]))] == [False, True]
    assert Known().find(digests_of(["a"]))[1] is None
    monkeypatch.setattr(reuse, "MOST_SOURCES", 1)
    few = known_rows(header, [Counting()], target=tmp_path / "t", cache=stores_folder())
    assert len(few[0].shards) == 1


def test_the_digest_of_an_image_is_that_of_its_bytes(monkeypatch):
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 255, (37, 11, 3), dtype=np.uint8))
    whole = hashlib.blake2b(b"imageRGB(11, 37)" + picture.tobytes(), digest_size=16).digest()
    for pixels in (1, 30, 11 * 37, 10**6):
        monkeypatch.setattr(reuse, "_STRIP_PIXELS", pixels)
        assert digests_of([picture])[0].tobytes() == whole
