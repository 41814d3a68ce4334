"""The embedding loop: whole shards, any interruption resumed to equal bytes, bad rows as asked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers_peak import rise
from helpers_ranks import run_alone, run_ranks
from PIL import Image

from fmcluster.embedding.data.source import Source
from fmcluster.embedding.embed import (
    default_folder,
    default_shard_rows,
    embed_to_store,
    name_spaces,
)
from fmcluster.embedding.encoders.fitted import load_state, restore, save_state
from fmcluster.embedding.prefetch import prefetch
from fmcluster.embedding.store import writer as _writer
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.utils.errors import CorruptShardError, DataError, StoreMismatchError

# One text, so that worker processes define the very same encoder.
ENCODER = '''
import hashlib, time
import numpy as np

class Fake:
    """Features that depend on the content alone, and remember what was asked."""

    def __init__(self, name="fake", modality="text", dim=8, delay=0.0):
        self.modality, self.dim, self.delay, self.calls = modality, None, delay, []
        self.fingerprint = {"encoder": name, "dim": dim}
        self.spec = {"encoder": name}
        self.width = dim

    def encode(self, rows):
        self.calls.append(len(rows))
        time.sleep(self.delay)
        out = np.empty((len(rows), self.width), np.float32)
        for i, row in enumerate(rows):
            content = row.encode() if isinstance(row, str) else row.tobytes()
            seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
            out[i] = np.random.default_rng(seed).standard_normal(self.width)
        return out
'''
_defined: dict = {}
exec(ENCODER, _defined)
Fake = _defined["Fake"]
TEXTS = [f"text number {i}" for i in range(100)]


def snapshot(folder):
    """Every file of a store and its digest, the lock left out."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).iterdir())
        if path.name != ".lock"
    }


def plain(texts, **options):
    return Fake(**options).encode(list(texts))


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- what comes out -------------------------------------------------------------------------------


def test_rows_are_those_of_the_encoder_in_order(fake, tmp_path):
    store = embed_to_store(TEXTS, fake, folder=tmp_path / "s", dtype="float32", shard_rows=30)
    assert np.array_equal(np.asarray(store), plain(TEXTS))
    assert store.ids.tolist() == list(range(100)) and fake.calls == [30, 30, 30, 10]
    assert store.spaces == ("fake",) and store.encoders == {"fake": fake.fingerprint}
    assert store.manifest.header["info"]["specs"] == [{"encoder": "fake"}]
    store.verify()
    half = embed_to_store(TEXTS, fake, folder=tmp_path / "h")
    assert half.dtype == np.float16
    assert np.array_equal(np.asarray(half), plain(TEXTS).astype(np.float16))


def test_second_call_encodes_nothing_and_needs_no_folder(fake, cache):
    first = embed_to_store(TEXTS, fake)
    assert first.folder.parent == cache / "embeddings"
    again = Fake()
    second = embed_to_store(list(TEXTS), again, shard_rows=7)
    assert again.calls == [] and second.folder == first.folder
    assert embed_to_store(TEXTS[:-1], fake).folder != first.folder


def test_cache_key_follows_what_matters_alone(fake):
    def key(**changes):
        header = {
            "data": {"fingerprint": "a"},
            "encoders": [{"name": "e", "fingerprint": {"pooling": "mean"}}],
            "settings": {"dtype": "float16"},
            "layout": {"shard_rows": 10},
            "info": {"column": "text"},
        }
        return default_folder({**header, **changes}).name

    base = key()
    assert base == key(layout={"shard_rows": 99}) == key(info={})
    changed = [
        key(data={"fingerprint": "b"}),
        key(encoders=[{"name": "e", "fingerprint": {"pooling": "cls"}}]),
        key(settings={"dtype": "float32"}),
    ]
    assert len({base, *changed}) == 4


def test_default_cache_is_that_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.delenv("FMCLUSTER_CACHE")
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    folder = default_folder({"data": 1, "encoders": 2, "settings": 3})
    assert folder.parent == tmp_path / "fmcluster" / "embeddings"


def test_several_encoders_share_the_ids(tmp_path):
    two = [Fake("a", dim=4), Fake("b", dim=6)]
    store = embed_to_store(TEXTS, two, folder=tmp_path / "s", dtype="float32", shard_rows=40)
    assert store.spaces == ("a", "b")
    assert np.array_equal(store.space("b")[:], plain(TEXTS, dim=6))
    same = name_spaces([Fake("a"), Fake("a")], "text")
    assert list(same) == ["a", "a#2"]
    assert list(name_spaces({"mine": Fake()}, "text")) == ["mine"]
    with pytest.raises(ValueError, match="no encoder"):
        name_spaces([], "text")


def test_streams_end_where_they_end_or_where_it_was_stated(fake, tmp_path):
    import datasets

    stream = datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    for rows, size in ((None, 30), (None, 25), (50, 25), (50, 30), (1000, 30)):
        folder = tmp_path / f"{rows}-{size}"
        source = Source(stream, n_rows=rows)
        store = embed_to_store(source, fake, folder=folder, shard_rows=size, dtype="float32")
        n = min(rows or 100, 100)
        assert np.array_equal(np.asarray(store), plain(TEXTS[:n]))
        assert len(store.manifest.shards) == -(-n // size)


def test_given_vectors_need_no_encoder(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    store = embed_to_store(tmp_path / "x.npy", None)
    assert np.array_equal(np.asarray(store), X) and store.folder is None
    saved = embed_to_store(X, None, folder=tmp_path / "s", dtype="float32")
    assert np.array_equal(np.asarray(saved), X) and saved.folder == tmp_path / "s"


def test_shards_grow_with_the_data_so_that_files_stay_few():
    class Sized:
        modality = "text"
        n_rows: int | None = None

    for n, expected in (
        (None, 4096),
        (100, 4096),
        (4_194_304, 4096),
        (10**7, 16384),
        (10**9, 65536),
    ):
        Sized.n_rows = n
        assert default_shard_rows(Sized) == expected


# --- views ----------------------------------------------------------------------------------------


@pytest.fixture
def augmented(monkeypatch):
    """A stand-in for the augmentations that depends on exactly what it should."""
    import types

    def augment(rows, modality, *, strength, seed, row_offset):
        return [f"{r}|{strength}|{seed}|{n}" for r, n in zip(rows, row_offset, strict=True)]

    def augment_fingerprint(modality, *, strength, seed):
        return {"augment": strength, "seed": seed}

    module = types.ModuleType("fmcluster.embedding.encoders.augment")
    module.augment, module.augment_fingerprint = augment, augment_fingerprint
    monkeypatch.setitem(sys.modules, "fmcluster.embedding.encoders.augment", module)


def test_views_are_cached_beside_the_clean_rows(fake, tmp_path, augmented):
    options = {"n_views": 2, "augment": "strong", "shard_rows": 40, "dtype": "float32"}
    store = embed_to_store(TEXTS, fake, folder=tmp_path / "a", **options)
    assert np.array_equal(np.asarray(store), plain(TEXTS))
    first, second = store.views()
    assert first.shape == second.shape == (100, 8)
    assert not np.array_equal(first[:], second[:]) and not np.array_equal(first[:], store[:])
    again = embed_to_store(TEXTS, fake, folder=tmp_path / "b", **options)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    assert np.array_equal(again.views()[1][50:60], second[50:60])
    other = embed_to_store(TEXTS, fake, folder=tmp_path / "c", random_state=1, **options)
    assert not np.array_equal(other.views()[0][:], first[:])
    with pytest.raises(
        StoreMismatchError, match="settings.views.augment: stored 'strong', asked 'weak'"
    ):
        embed_to_store(TEXTS, fake, folder=tmp_path / "a", **{**options, "augment": "weak"})
    with pytest.raises(StoreMismatchError, match="settings.views.seed"):
        embed_to_store(TEXTS, fake, folder=tmp_path / "a", random_state=1, **options)


def test_views_of_a_row_do_not_depend_on_rows_left_out(fake, tmp_path, augmented):
    texts = [*TEXTS]
    texts[3] = ""
    options = {"n_views": 1, "dtype": "float32", "shard_rows": 40}
    whole = embed_to_store(TEXTS, fake, folder=tmp_path / "a", **options)
    skip = embed_to_store(texts, fake, folder=tmp_path / "b", on_error="skip", **options)
    mark = embed_to_store(texts, fake, folder=tmp_path / "c", on_error="mark", **options)
    assert np.array_equal(skip.views()[0][:], whole.views()[0][skip.ids])
    assert np.array_equal(mark.views()[0][4:], whole.views()[0][4:])
    assert not mark.views()[0][3].any()


def test_real_augmentations_of_texts_and_images_resume_to_equal_bytes(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (20, 12, 12, 3), dtype=np.uint8)
    for data, modality in ((TEXTS[:20], "text"), (images, "image")):
        options = {"n_views": 2, "augment": "strong", "shard_rows": 7}
        first, second = tmp_path / f"{modality}1", tmp_path / f"{modality}2"
        embed_to_store(data, Fake(modality=modality), folder=first, **options)
        embed_to_store(data, Fake(modality=modality), folder=second, **options)
        (second / "shard-00001.json").unlink()
        (second / "space0.view1-00001.npy").unlink()
        again = Fake(modality=modality)
        store = embed_to_store(data, again, folder=second, repair=True, **options)
        assert again.calls == [7, 7, 7] and snapshot(first) == snapshot(second)
        assert not np.array_equal(store.views()[0][:], store.views()[1][:])


# --- rows that cannot be read ---------------------------------------------------------------------


def test_skip_leaves_rows_out_and_keeps_the_numbering(fake, tmp_path):
    texts = [*TEXTS]
    for i in (0, 31, 32, 99):
        texts[i] = ""
    with pytest.raises(DataError, match="row 0: the text is empty; pass on_error='skip'"):
        embed_to_store(texts, fake, folder=tmp_path / "r", shard_rows=30)
    store = embed_to_store(
        texts, fake, folder=tmp_path / "s", shard_rows=30, on_error="skip", dtype="float32"
    )
    assert store.skipped_ids == [0, 31, 32, 99] and store.bad_ids == []
    assert len(store) == 96 and np.array_equal(
        store.ids, np.setdiff1d(np.arange(100), [0, 31, 32, 99])
    )
    assert np.array_equal(np.asarray(store), plain([texts[i] for i in store.ids]))
    assert store.unreadable("skipped")[0] == [0, "the text is empty"]


def test_mark_keeps_zero_rows_and_lists_them(fake, tmp_path):
    texts = [*TEXTS]
    texts[5] = texts[60] = None
    store = embed_to_store(
        texts, fake, folder=tmp_path / "s", shard_rows=30, on_error="mark", dtype="float32"
    )
    assert store.bad_ids == [5, 60] and len(store) == 100
    assert np.array_equal(np.flatnonzero(~store.readable), [5, 60])
    expected = plain([t or "" for t in texts])
    expected[[5, 60]] = 0
    assert np.array_equal(np.asarray(store), expected)
    kept = store.save(tmp_path / "copy", shard_rows=13)
    assert kept.bad_ids == [5, 60]


def test_a_shard_without_one_readable_row(fake, tmp_path):
    texts = ["", "", "", "d", "e", "f", ""]
    for policy, ids in (("skip", [3, 4, 5]), ("mark", list(range(7)))):
        store = embed_to_store(
            texts, fake, folder=tmp_path / policy, shard_rows=3, on_error=policy, dtype="float32"
        )
        assert store.ids.tolist() == ids and store.shape[1] == 8
        row = ids.index(3)
        assert np.array_equal(store[row : row + 3], plain("def"))
        assert np.asarray(store).shape == (len(ids), 8)
        store.verify()
    with pytest.raises(DataError, match="no row could be embedded: the text is empty"):
        embed_to_store(["", " "], fake, folder=tmp_path / "none", on_error="skip")


def test_images_with_a_broken_one_and_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(300):
        Image.new("RGB", (4, 4), (i % 256, i // 256, 0)).save(folder / f"{i:03d}.png")
    (folder / "007.png").write_bytes(b"\x89PNG broken")
    Image.new("1", (200, 200)).save(folder / "200.png")
    fake = Fake(modality="image")
    store = embed_to_store(folder, fake, folder=tmp_path / "s", on_error="skip", dtype="float32")
    assert store.skipped_ids == ["007.png", "200.png"]
    assert "pixels" in str(store.unreadable("skipped")[1])
    assert store.ids[7] == "008.png" and len(store) == 298
    expected = plain([Image.new("RGB", (4, 4), (8, 0, 0))], modality="image")
    assert np.array_equal(store[7:8], expected)
    assert fake.calls == [127, 127, 44]


def test_wrong_modality_duplicate_ids_and_bad_settings(fake, tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (2, 2)).save(image, "PNG")
    with pytest.raises(ValueError, match="takes texts, the data are images"):
        embed_to_store([image.getvalue()], fake, folder=tmp_path / "s")
    for name, value in (("dtype", "int8"), ("on_error", "ignore"), ("augment", "wild")):
        with pytest.raises(ValueError, match=f"{name}={value!r} is not known"):
            embed_to_store(TEXTS, fake, **{name: value})
    for name, value in (("n_views", -1), ("shard_rows", 0)):
        with pytest.raises(ValueError, match=f"{name}={value} is outside"):
            embed_to_store(TEXTS, fake, **{name: value})
    with pytest.raises(DataError, match="the data is empty"):
        embed_to_store([], fake)
    one = embed_to_store(["alone"], fake)
    assert one.shape == (1, 8)


# --- what an encoder may do wrong -----------------------------------------------------------------


class Broken:
    def __init__(self, fault):
        self.modality, self.dim, self.fault = "text", None, fault
        self.fingerprint, self.spec = {"encoder": "broken"}, {"encoder": "broken"}

    def encode(self, rows):
        out = plain(rows)
        if "text number 41" in rows:
            return self.fault(out, rows.index("text number 41"))
        return out


def put(value):
    def fault(out, row):
        out[row, 2] = value
        return out

    return fault


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            put(np.nan),
            r"encoder 'broken': embeddings holds NaN or infinite values in 1 row\(s\): k41",
        ),
        (put(-np.inf), "k41"),
        (
            put(7e4),
            r"1 row\(s\) do not fit float16.*7e\+04.*first is id 'k41': use dtype='float32'",
        ),
        (lambda out, row: out[:-1], r"shape \(29, 8\) for 30 rows"),
        (lambda out, row: out[0], r"shape \(8,\) for 30 rows"),
    ],
)
def test_faults_of_an_encoder_are_caught_at_the_shard(tmp_path, fault, says):
    source = Source(TEXTS, ids=[f"k{i}" for i in range(100)])
    with pytest.raises(ValueError, match=says):
        embed_to_store(source, Broken(fault), folder=tmp_path / "s", shard_rows=30)
    assert (tmp_path / "s" / "shard-00000.json").exists()
    assert not list((tmp_path / "s").glob("*-00001.*"))


def test_widths_that_differ_between_shards_are_found(tmp_path):
    wide = Broken(lambda out, row: np.hstack([out, out]))
    with pytest.raises(CorruptShardError, match="shard 1 .* has columns {'space0': 16}, shard 0"):
        embed_to_store(TEXTS, wide, folder=tmp_path / "s", shard_rows=30)


# --- nothing lost ---------------------------------------------------------------------------------

WORKER = (
    ENCODER
    + """
import signal, sys
from fmcluster.embedding.embed import embed_to_store
# A suite that was started in the background hands down that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
texts = [f"text number {i}" for i in range(400)]
texts[13] = ""
print("go", flush=True)
embed_to_store(texts, [Fake("a", delay=0.02), Fake("b", dim=3)], folder=sys.argv[1],
               shard_rows=20, on_error="skip")
print("done", flush=True)
"""
)


@pytest.fixture
def worker(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(WORKER)

    def start(folder, **environment):
        return subprocess.Popen(
            [sys.executable, str(path), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return start


WORK = (
    ENCODER
    + """
from fmcluster.embedding.embed import embed_to_store

def work(folder):
    texts = [f"text number {i}" for i in range(400)]
    texts[13] = ""
    embed_to_store(texts, [Fake("a"), Fake("b", dim=3)], folder=folder, shard_rows=20,
                   on_error="skip")
"""
)
# One process that has imported everything; for every line it gets, a worker is forked from it.
FORKS = (
    ENCODER
    + """
import os, sys
from fmcluster.embedding.embed import embed_to_store
texts = [f"text number {i}" for i in range(400)]
texts[13] = ""
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        print(os.getpid(), flush=True)
        embed_to_store(texts, [Fake("a", delay=0.01), Fake("b", dim=3)], folder=line.strip(),
                       shard_rows=40, on_error="skip")
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_kills_of_twenty_resume_to_equal_bytes(tmp_path):
    forks = subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def worker(folder):
        forks.stdin.write(f"{folder}\n")
        forks.stdin.flush()
        return int(forks.stdout.readline())

    def ended():
        return int(forks.stdout.readline())

    def shards(folder):
        return len(list(folder.glob("shard-*.json")))

    generator, partial = random.Random(1), 0
    try:
        for whole in ("first", "whole"):  # what is imported late is imported by the first
            worker(tmp_path / whole)
            began = time.monotonic()
            assert ended() == 0
        a_shard = (time.monotonic() - began) / 10
        expected = snapshot(tmp_path / "whole")
        for attempt in range(20):
            folder = tmp_path / f"killed{attempt}"
            pid = worker(folder)
            # At any moment after so many shards: a machine may be slower than it was.
            written, began = generator.randrange(10), time.monotonic()
            while shards(folder) < written and time.monotonic() < began + 60:
                time.sleep(0.002)
            time.sleep(generator.uniform(0, a_shard))
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
            assert ended() in (0, signal.SIGKILL)
            before = snapshot(folder) if folder.exists() else {}
            partial += 0 < len([n for n in before if n.startswith("shard-")]) < 10
            worker(folder)
            assert ended() == 0
            assert snapshot(folder) == expected
            finished = [name for name in before if name.startswith("shard-")]
            assert all(before[name] == expected[name] for name in finished)
    finally:
        forks.stdin.close()
        forks.wait(20)
        forks.stdout.close()
    assert partial >= 8


def test_killed_at_every_write(fake, tmp_path, monkeypatch):
    """Stop before each file in turn is moved into place: what is then on disk resumes."""
    options = {"shard_rows": 40, "dtype": "float32"}
    embed_to_store(TEXTS, fake, folder=tmp_path / "whole", **options)
    expected = snapshot(tmp_path / "whole")
    real = os.replace
    for stop in range(len(expected)):
        folder = tmp_path / f"at{stop}"
        count = 0

        def replace(a, b, stop=stop):
            nonlocal count
            count += 1
            if count > stop:
                raise KeyboardInterrupt
            real(a, b)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            embed_to_store(TEXTS, fake, folder=folder, **options)
        monkeypatch.setattr(os, "replace", real)
        embed_to_store(TEXTS, fake, folder=folder, **options)
        assert snapshot(folder) == expected


def test_interrupt_keeps_finished_shards_and_stops_the_thread(tmp_path):
    class Interrupting(Fake):
        def encode(self, rows):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().encode(rows)

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        embed_to_store(TEXTS, Interrupting(), folder=tmp_path / "s", shard_rows=20)
    assert threading.active_count() == threads
    again = Fake()
    store = embed_to_store(TEXTS, again, folder=tmp_path / "s", shard_rows=99)
    assert again.calls == [20, 20, 20] and len(store.manifest.shards) == 5


def test_leftovers_of_a_killed_process_are_removed(fake, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / ".space0-00000.npy.1234.tmp").write_bytes(b"half")
    embed_to_store(TEXTS, fake, folder=folder)
    assert not list(folder.glob(".*.tmp"))


def test_full_disk_keeps_finished_shards_and_says_so(fake, tmp_path, monkeypatch):
    embed_to_store(TEXTS, fake, folder=tmp_path / "whole", shard_rows=20)
    real = _writer.write_array
    written = []

    def full(path, array):
        if len(written) == 7:  # three files a shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        real(path, array)

    monkeypatch.setattr(_writer, "write_array", full)
    with pytest.raises(
        OSError, match="the disk is full while writing shard 2 .* 2 finished"
    ) as seen:
        embed_to_store(TEXTS, fake, folder=tmp_path / "s", shard_rows=20)
    assert seen.value.errno == errno.ENOSPC
    assert not list((tmp_path / "s").glob("*-00002*")) and not list((tmp_path / "s").glob(".*tmp"))
    monkeypatch.setattr(_writer, "write_array", real)
    embed_to_store(TEXTS, fake, folder=tmp_path / "s", shard_rows=20)
    assert snapshot(tmp_path / "s") == snapshot(tmp_path / "whole")


def test_a_write_that_the_system_refuses_leaves_no_part_of_its_shard(fake, tmp_path):
    """The same through the system itself, by its limit on the length of files."""
    resource = pytest.importorskip("resource")
    wide = Fake("wide", dim=256)
    embed_to_store(TEXTS, [fake, wide], folder=tmp_path / "whole", shard_rows=20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError) as seen:
            embed_to_store(TEXTS, [fake, wide], folder=tmp_path / "s", shard_rows=20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert seen.value.errno == errno.EFBIG
    assert not list((tmp_path / "s").glob("space*")) and not list((tmp_path / "s").glob(".*tmp"))
    embed_to_store(TEXTS, [fake, wide], folder=tmp_path / "s", shard_rows=20)
    assert snapshot(tmp_path / "s") == snapshot(tmp_path / "whole")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_really_full_device_has_its_errno():
    """numpy's own writing loses the cause, so arrays are written through Python."""
    from fmcluster.utils.files import _ByPython

    with pytest.raises(OSError) as seen, open("/dev/full", "wb", buffering=0) as handle:
        np.lib.format.write_array(_ByPython(handle), np.ones(100_000))
    assert seen.value.errno == errno.ENOSPC


def test_ctrl_c_ends_a_worker_at_once_and_it_resumes(worker, tmp_path):
    process = worker(tmp_path / "s")
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode not in (0, None) and "KeyboardInterrupt" in err
    assert "done" not in out  # at once: not after the rows that were left
    assert not list((tmp_path / "s").glob(".*.tmp"))
    again = worker(tmp_path / "s")
    assert again.communicate(timeout=60)[0].endswith("done\n")


# --- several processes ----------------------------------------------------------------------------


def as_rank(monkeypatch, rank, world):
    monkeypatch.setattr("fmcluster.utils.distributed.rank", lambda: rank)
    monkeypatch.setattr("fmcluster.utils.distributed.world_size", lambda: world)
    monkeypatch.setattr("fmcluster.utils.distributed.is_main", lambda: rank == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_interrupted_at_two_processes_resumed_at_one_and_at_three(tmp_path, monkeypatch, stream):
    import datasets

    data = TEXTS
    if stream:
        data = datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    folder = tmp_path / "s"
    whole = Fake()
    embed_to_store(data, whole, folder=tmp_path / "whole", shard_rows=15)
    as_rank(monkeypatch, 0, 2)
    with pytest.raises(CorruptShardError, match="3 of 7 shards .* the first is 1: run the same"):
        embed_to_store(data, Fake(), folder=folder, shard_rows=15)
    assert sorted(p.name for p in folder.glob("shard-*")) == [
        f"shard-0000{i}.json" for i in (0, 2, 4, 6)
    ]
    as_rank(monkeypatch, 1, 3)
    with pytest.raises(CorruptShardError, match="unfinished"):
        embed_to_store(data, Fake(), folder=folder, shard_rows=15)
    monkeypatch.undo()
    last = Fake()
    embed_to_store(data, last, folder=folder, shard_rows=15)
    assert last.calls == [15, 15]
    assert snapshot(folder) == snapshot(tmp_path / "whole")


def test_an_empty_rank_is_no_trouble(tmp_path, monkeypatch):
    as_rank(monkeypatch, 5, 8)
    idle = Fake()
    (tmp_path / "s").mkdir()
    monkeypatch.setattr("fmcluster.utils.distributed.is_main", lambda: True)
    with pytest.raises(CorruptShardError, match="1 of 1 shards"):
        embed_to_store(TEXTS, idle, folder=tmp_path / "s")
    assert idle.calls == []


def test_two_jobs_on_one_cache_write_once(worker, tmp_path):
    folder = tmp_path / "s"
    jobs = [worker(folder) for _ in range(2)]
    logs = [job.communicate(timeout=90) for job in jobs]
    assert all(out.endswith("done\n") for out, _ in logs), logs
    assert sum("waiting for it to end" in err for _, err in logs) == 1
    EmbeddingStore.open(folder).verify()
    whole = worker(tmp_path / "whole")
    whole.communicate(timeout=60)
    assert snapshot(folder) == snapshot(tmp_path / "whole")


@pytest.mark.dist
def test_two_processes_give_the_bytes_of_one(tmp_path):
    run_ranks(WORK, tmp_path / "two")
    run_alone(WORK, tmp_path / "one")
    assert snapshot(tmp_path / "two") == snapshot(tmp_path / "one")


# --- another encoder, damage, repair --------------------------------------------------------------


def test_other_data_encoder_or_settings_are_refused_with_the_fields(fake, tmp_path):
    embed_to_store(TEXTS, fake, folder=tmp_path / "s")
    other = Fake()
    other.fingerprint = {"encoder": "fake", "dim": 8, "pooling": "cls"}
    for data, encoder, options, says in (
        (TEXTS, other, {}, r"encoders\[0\].fingerprint.pooling: stored '\(nothing\)', asked 'cls'"),
        (TEXTS[1:], fake, {}, "data.n_rows: stored 100, asked 99"),
        (TEXTS, fake, {"dtype": "float32"}, "settings.dtype: stored 'float16', asked 'float32'"),
        (TEXTS, [fake, other], {}, r"encoders\[1\]"),
    ):
        with pytest.raises(StoreMismatchError, match=says):
            embed_to_store(data, encoder, folder=tmp_path / "s", **options)


def test_repair_encodes_the_damaged_shards_alone(fake, tmp_path, caplog):
    folder = tmp_path / "s"
    embed_to_store(TEXTS, fake, folder=folder, shard_rows=20)
    expected = snapshot(folder)
    data = bytearray((folder / "space0-00003.npy").read_bytes())
    data[-1] ^= 1
    (folder / "space0-00003.npy").write_bytes(bytes(data))
    (folder / "ids-00001.npy").unlink()
    (folder / "shard-00000.json").unlink()
    with pytest.raises(CorruptShardError, match="ids-00001.npy is missing: .*repair=True"):
        embed_to_store(TEXTS, fake, folder=folder)
    again = Fake()
    with caplog.at_level(logging.WARNING):
        embed_to_store(TEXTS, again, folder=folder, repair=True).verify()
    assert again.calls == [20, 20] and snapshot(folder) == expected
    assert "space0-00003.npy does not match its checksum" in caplog.text
    sound = Fake()
    embed_to_store(TEXTS, sound, folder=folder, repair=True)
    assert sound.calls == [] and snapshot(folder) == expected


@pytest.mark.parametrize("harm", ["edit", "cut", "remove"])
def test_repair_of_a_damaged_manifest_encodes_nothing(fake, tmp_path, harm):
    folder = tmp_path / "s"
    embed_to_store(TEXTS, fake, folder=folder, shard_rows=20)
    expected = snapshot(folder)
    manifest = folder / "manifest.json"
    if harm == "edit":
        manifest.write_text(manifest.read_text().replace('"n_rows": 100', '"n_rows": 99'))
    elif harm == "cut":
        manifest.write_text(manifest.read_text()[:200])
    else:
        manifest.unlink()
    with pytest.raises((CorruptShardError, FileExistsError)):
        embed_to_store(TEXTS, fake, folder=folder, shard_rows=20)
    again = Fake()
    embed_to_store(TEXTS, again, folder=folder, shard_rows=20, repair=True)
    assert again.calls == [] and snapshot(folder) == expected


def test_marks_of_another_layout_are_not_trusted(fake, tmp_path):
    folder = tmp_path / "s"
    embed_to_store(TEXTS, fake, folder=folder, shard_rows=20)
    (folder / "manifest.json").unlink()
    again = Fake()
    store = embed_to_store(TEXTS, again, folder=folder, shard_rows=50, repair=True, dtype="float16")
    assert again.calls == [50, 50] and np.array_equal(store.ids, np.arange(100))
    assert np.array_equal(np.asarray(store), plain(TEXTS).astype(np.float16))


# --- encoders fitted on the data ------------------------------------------------------------------


class Lengths:
    """An encoder that has to see the data: features relative to the mean length."""

    def __init__(self):
        self.modality, self.dim, self.fitted, self.mean = "text", 1, False, None
        self.spec = {"encoder": "lengths"}

    @property
    def fingerprint(self):
        return {"encoder": "lengths", "mean": self.mean}

    def fit(self, texts):
        self.mean = float(np.mean([len(text) for text in texts]))
        self.fitted = True

    def state(self):
        return {"mean": np.array([self.mean])}, {"note": "é"}

    @classmethod
    def from_state(cls, arrays, meta):
        assert meta == {"note": "é"}
        made = cls()
        made.mean, made.fitted = float(arrays["mean"][0]), True
        return made

    def encode(self, rows):
        return np.array([[len(row) - self.mean] for row in rows], dtype=np.float32)


def test_fitted_encoders_keep_their_state_in_the_store(tmp_path):
    own = Lengths()
    texts = ["a", "bbb", "", "ccccc"]
    store = embed_to_store(texts, own, folder=tmp_path / "s", on_error="skip", dtype="float32")
    assert not own.fitted and np.array_equal(np.asarray(store)[:, 0], [-2, 0, 2])
    again = embed_to_store(texts, own, folder=tmp_path / "s", on_error="skip", dtype="float32")
    assert np.array_equal(np.asarray(again), np.asarray(store))
    back = restore(Lengths(), load_state(tmp_path / "s", 0))
    assert back.encode(["bbbb"]).tolist() == [[1.0]]
    assert load_state(tmp_path / "s", 1) is None


def test_damaged_state_is_refused(tmp_path):
    save_state(tmp_path, 0, {"mean": np.ones(3)}, {"note": 1})
    (tmp_path / "encoder0.mean.npy").write_bytes(b"x")
    with pytest.raises(CorruptShardError, match="encoder0.mean.npy is missing or damaged"):
        load_state(tmp_path, 0)
    body = json.loads((tmp_path / "encoder0.json").read_text())
    (tmp_path / "encoder0.json").write_text(json.dumps({**body, "values": {"note": 2}}))
    with pytest.raises(CorruptShardError, match="encoder0.json was edited or damaged"):
        load_state(tmp_path, 0)


# --- means ----------------------------------------------------------------------------------------


def test_prefetch_keeps_order_raises_errors_and_ends():
    assert list(prefetch(range(50))) == list(range(50))
    made = []

    def source():
        for i in range(1000):
            made.append(i)
            yield i
            if i == 5:
                raise RuntimeError("at five")

    seen = []
    with pytest.raises(RuntimeError, match="at five"):
        for item in prefetch(source()):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4, 5]

    made.clear()
    threads = threading.active_count()
    loop = prefetch(iter(source_of(made)), depth=2)
    assert next(loop) == 0
    time.sleep(0.2)
    assert len(made) <= 5  # one read, two waiting, one in the making
    loop.close()
    assert threading.active_count() == threads


def test_python_ends_while_a_prefetch_is_left_as_it_is():
    code = (
        "import itertools; from fmcluster.embedding.prefetch import prefetch;"
        "loop = prefetch(itertools.count()); print(next(loop))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def source_of(made):
    for i in range(1000):
        made.append(i)
        yield i


MEMORY = (
    ENCODER
    + """
import sys
import numpy as np

class Flat(Fake):
    def encode(self, rows):
        return np.ones((len(rows), 512), np.float32)

class Many(list):
    def __len__(self): return int(sys.argv[2])
    def __getitem__(self, key):
        return [f"row {i}" for i in range(*key.indices(len(self)))]

from fmcluster.embedding.embed import embed_to_store
embed_to_store(Many(), Flat(), folder=sys.argv[1] + "/warm", shard_rows=2048)
sys.argv[2] = sys.argv[3]
"""
)
GROWN = """
store = embed_to_store(Many(), Flat(), folder=sys.argv[1] + "/full", shard_rows=2048)
assert len(store) == 125_000 and store.space().nbytes == 125_000 * 1024
"""


def test_memory_does_not_grow_with_the_rows(tmp_path):
    grown = rise(MEMORY, GROWN, tmp_path, 10_000, 125_000)
    assert grown < 29, f"{grown} MiB more for 12 times the rows"


def test_module_needs_neither_torch_nor_datasets():
    code = (
        "import sys, fmcluster.embedding as e;"
        "print([m for m in ('torch', 'datasets', 'transformers', 'faiss') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- streams, arrays and images are what they are -------------------------------------------------


def stream_of(texts):
    import datasets

    return datasets.Dataset.from_dict({"text": texts}).to_iterable_dataset()


def test_streams_that_differ_after_their_first_rows_share_nothing(cache):
    longer = [*TEXTS, *(f"more {i}" for i in range(100))]
    changed = [*TEXTS[:80], "changed", *TEXTS[81:]]
    for texts in (TEXTS, longer, changed, TEXTS, longer):
        encoder = Fake()
        store = embed_to_store(stream_of(texts), encoder, dtype="float32", shard_rows=30)
        assert np.array_equal(np.asarray(store), plain(texts))
    assert encoder.calls == [], "the second time each is served"


def test_another_stream_in_a_named_folder_is_refused(fake, tmp_path):
    embed_to_store(stream_of(TEXTS), fake, folder=tmp_path / "s", shard_rows=30)
    calls = list(fake.calls)
    embed_to_store(stream_of(TEXTS), fake, folder=tmp_path / "s", shard_rows=30)
    assert fake.calls == calls
    with pytest.raises(StoreMismatchError, match="a stream with other rows.*another folder"):
        embed_to_store(stream_of([*TEXTS, "one more"]), fake, folder=tmp_path / "s", shard_rows=30)


def test_an_unfinished_stream_takes_up_no_shard_of_other_rows(tmp_path):
    class Failing(Fake):
        def encode(self, rows):
            if len(self.calls) == 1:
                raise RuntimeError("stop")
            return super().encode(rows)

    changed = [*TEXTS[:80], "changed", *TEXTS[81:], *TEXTS[:20]]
    other = [*TEXTS[:70], "else", *TEXTS[71:], *TEXTS[:20]]
    with pytest.raises(RuntimeError, match="stop"):
        embed_to_store(stream_of(changed), Failing(), folder=tmp_path, shard_rows=75)
    assert [path.name for path in tmp_path.glob("shard-*.json")] == ["shard-00000.json"]
    store = embed_to_store(stream_of(other), Fake(), folder=tmp_path, shard_rows=75)
    assert np.array_equal(np.asarray(store), plain(other).astype(np.float16))


def test_an_array_in_memory_is_stored_as_its_file_is(tmp_path):
    import torch

    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    filed = embed_to_store(tmp_path / "x.npy", None, folder=tmp_path / "file", dtype="float16")
    for name, data in (("array", X), ("list", X.tolist()), ("tensor", torch.tensor(X))):
        store = embed_to_store(data, None, folder=tmp_path / name, dtype="float16")
        assert store.dtype == np.float16 and store.folder == tmp_path / name
        assert np.array_equal(np.asarray(store), np.asarray(filed)), name
    rows = embed_to_store(Source(X, ids=[f"k{i}" for i in range(20)], n_rows=7), None)
    assert rows.ids.tolist() == [f"k{i}" for i in range(7)] and rows.shape == (7, 3)


def test_images_in_an_array_are_embedded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)

    class Mean:
        modality, fingerprint = "image", "mean"

        def encode(self, rows):
            return np.array([np.asarray(row).reshape(-1, 3).mean(axis=0) for row in rows])

    store = embed_to_store(pixels, Mean(), dtype="float32", folder=tmp_path / "s")
    np.testing.assert_allclose(np.asarray(store), pixels.reshape(5, -1, 3).mean(axis=1), rtol=1e-6)
    settings = json.loads((tmp_path / "s" / "manifest.json").read_text())["settings"]
    assert "alpha-over-white" in settings["images"]
