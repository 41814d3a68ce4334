"""Files: whole or absent, locked between processes, the same digest everywhere, never pickled."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import Timeout

from fmcluster.utils import files as _files
from fmcluster.utils.errors import CorruptShardError, DataError
from fmcluster.utils.files import check_place


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- atomic writes ---------------------------------------------------------------------------


def test_a_write_makes_its_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "text.txt"
    _files.write_text(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    assert names(path.parent) == ["text.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state.bin"
    _files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="half way"), _files.atomic_path(path) as temporary:
        temporary.write_bytes(b"new, but only ha")
        raise RuntimeError("half way")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state.bin"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), _files.atomic_path(tmp_path / "x") as temporary:
        temporary.write_bytes(b"1")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error_not_an_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), _files.atomic_path(tmp_path / "x"):
        pass
    assert names(tmp_path) == []


def test_the_file_is_synced_before_it_takes_its_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    _files.write_bytes(tmp_path / "x", b"1")
    assert done == ["sync", "replace"]


def test_a_full_disk_is_told_by_its_errno(tmp_path, monkeypatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    _files.write_bytes(tmp_path / "x", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        _files.write_array(tmp_path / "x", np.zeros(3))
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "x"
    texts = [str(i) * 20_000 for i in range(8)]
    threads = [threading.Thread(target=_files.write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["x"]


# --- JSON ------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from fmcluster.utils.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_what_a_killed_writer_left_goes_with_the_next_write_of_that_file(tmp_path):
    for name in ("a[1]-b.bin", "other.bin"):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.glob(".*.tmp"))) == 2
    with _files.atomic_path(tmp_path / "a[1]-b.bin") as living:
        living.write_bytes(b"first")
        _files.write_bytes(tmp_path / "a[1]-b.bin", b"second")
        assert living.exists(), "a writer that lives was robbed"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0].startswith(".other.bin.")
    assert names[1:] == ["a[1]-b.bin"]


def test_json_holds_numpy_sets_and_paths_as_plain_values(tmp_path):
    value = {
        "scalar": np.float32(0.5),
        "flag": np.bool_(True),
        "array": np.arange(4).reshape(2, 2),
        "set": {"b", "a"},
        "path": Path("x") / "y",
    }
    _files.write_json(tmp_path / "v.json", value)
    assert _files.read_json(tmp_path / "v.json") == {
        "scalar": 0.5,
        "flag": True,
        "array": [[0, 1], [2, 3]],
        "set": ["a", "b"],
        "path": os.path.join("x", "y"),
    }
    assert (tmp_path / "v.json").read_text().endswith("}\n")


def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "v.json"
    _files.write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        _files.write_json(path, float("nan"))
    with pytest.raises(TypeError, match="Generator cannot be written"):
        _files.write_json(path, np.random.default_rng(0))
    assert _files.read_json(path) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": }', b"\xff\xfe\x00", b"1 2"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(CorruptShardError, match=r"v\.json is not valid JSON.*restore or delete"):
        _files.read_json(tmp_path / "v.json")


def test_an_absent_file_is_not_called_damaged(tmp_path):
    for read in (_files.read_json, _files.read_array, _files.digest_file):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "absent")


# --- arrays ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "bool", "<U5"])
def test_arrays_come_back_bit_for_bit(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for given in (array, np.asfortranarray(array), array[::2], array[:0]):
        _files.write_array(tmp_path / "a.npy", given)
        found = _files.read_array(tmp_path / "a.npy")
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, given)
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), given)


def test_a_mapped_array_is_read_only(tmp_path):
    _files.write_array(tmp_path / "a.npy", np.arange(5.0))
    found = _files.read_array(tmp_path / "a.npy", mmap=True)
    assert isinstance(found, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_objects_are_neither_written_nor_read(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        _files.write_array(tmp_path / "a.npy", objects)
    assert names(tmp_path) == []
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    with pytest.raises(CorruptShardError, match=r"a\.npy is not a readable"):
        _files.read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("keep", [0, 3, 40, 150])
@pytest.mark.parametrize("mmap", [False, True])
def test_a_truncated_array_is_named(tmp_path, keep, mmap):
    path = tmp_path / "a.npy"
    _files.write_array(path, np.arange(50.0))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptShardError, match=r"a\.npy is not a readable"):
        _files.read_array(path, mmap=mmap)


def test_a_malformed_folder_becomes_one_error():
    for error in (KeyError("k"), TypeError("t"), IndexError("i"), MemoryError(), OverflowError()):
        with pytest.raises(CorruptShardError, match="saved is malformed"):
            with _files.as_corrupt("saved"):
                raise error
    with pytest.raises(FileNotFoundError), _files.as_corrupt("saved"):
        raise FileNotFoundError


# --- digests ---------------------------------------------------------------------------------


def test_digests_are_sha256(tmp_path):
    data = os.urandom(100_000)
    (tmp_path / "x").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()[:32]
    assert _files.digest_bytes(data) == expected == _files.digest_file(tmp_path / "x")


def test_stable_hash_is_the_same_in_every_process():
    value = {"b": [1, 2.5, None, True], "a": {"ü": "x"}, "s": {"q", "p", "r"}}
    here = _files.stable_hash(value)
    code = (
        "from fmcluster.utils.files import stable_hash as h;"
        "print(h({'s': {'r', 'p', 'q'}, 'a': {'ü': 'x'}, 'b': [1, 2.5, None, True]}))"
    )
    root = str(Path(__file__).resolve().parents[2])
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
        found = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            check=True,
            text=True,
        )
        assert found.stdout.strip() == here


def test_stable_hash_is_pinned_because_caches_on_disk_are_named_by_it():
    text = '{"a":1,"b":[1,2]}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert _files.stable_hash({"b": [1, 2], "a": 1}) == expected
    assert _files.stable_hash({"b": np.array([1, 2]), "a": np.int64(1)}) == expected
    assert _files.stable_hash({"b": (1, 2), "a": 1}) == expected


def test_stable_hash_tells_values_apart():
    values = [1, 1.5, "1", [1], {"a": 1}, {"a": 2}, None, True, "", [[1]], [1, 2], [2, 1]]
    assert len({_files.stable_hash(value) for value in values}) == len(values)


# --- names from files ------------------------------------------------------------------------


def test_safe_child_joins_plain_names(tmp_path):
    assert _files.safe_child(tmp_path, "shard-0.npy") == tmp_path / "shard-0.npy"
    assert _files.safe_child(str(tmp_path), "..x") == tmp_path / "..x"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "x/", "./x", "x\0.npy", "a/../b"]
)
def test_safe_child_refuses_to_leave_the_folder(tmp_path, name):
    with pytest.raises(CorruptShardError, match="is not a plain file name"):
        _files.safe_child(tmp_path, name)


# --- locks -----------------------------------------------------------------------------------

HOLDER = """
import sys
from fmcluster.utils.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_holds_between_processes_and_dies_with_its_holder(tmp_path):
    path = tmp_path / "new" / "x.lock"
    root = str(Path(__file__).resolve().parents[2])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "held"
        with pytest.raises(Timeout), _files.lock(path, timeout=0.05):
            pass
    finally:
        holder.kill()
        holder.wait()
        for pipe in (holder.stdin, holder.stdout):
            pipe.close()
    with _files.lock(path, timeout=5):
        pass


def test_a_lock_is_freed_by_an_error(tmp_path):
    with pytest.raises(RuntimeError), _files.lock(tmp_path / "x.lock"):
        raise RuntimeError
    with _files.lock(tmp_path / "x.lock", timeout=0.05):
        pass


def test_a_place_below_a_file_is_refused_with_the_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    with pytest.raises(DataError, match=r"run/a cannot be written: .*plain is a file"):
        check_place(tmp_path / "plain" / "run" / "a")
    check_place(tmp_path / "new" / "run")
    check_place(tmp_path / "plain")  # a file is replaced
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain"]


def test_a_folder_that_takes_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=f"nothing can be written in {tmp_path}"):
        check_place(tmp_path / "new" / "run")


def test_a_folder_in_place_of_a_file_is_said_before_the_work(tmp_path):
    with (
        pytest.raises(IsADirectoryError, match="is a folder: name a file"),
        _files.atomic_path(tmp_path),
    ):
        pytest.fail("nothing is to be written")
