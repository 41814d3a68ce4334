"""A folder is replaced whole or not at all, and only where it is ours."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmcluster.utils import folders
from fmcluster.utils.errors import DataError
from fmcluster.utils.files import machine_id
from fmcluster.utils.folders import check_replaceable, replaced_folder

OWNED = ("mark.json", "a", "b", "part")


def save(target, text):
    with replaced_folder(target, marker="mark.json", owned=OWNED) as fresh:
        for name in ("a", "b", "mark.json"):
            (fresh / name).write_text(text)
        (fresh / "part").mkdir()
        (fresh / "part" / "c").write_text(text)


def read(target):
    names = ("a", "b", "mark.json", "part/c")
    return {(Path(target) / name).read_text() for name in names}


def others(target):
    return [p.name for p in Path(target).parent.iterdir() if p != Path(target)]


def test_it_is_made_replaced_and_keeps_what_is_not_ours(tmp_path):
    target = tmp_path / "run"
    save(target, "one")
    (target / "notes.txt").write_text("mine")
    (target / "mine").mkdir()
    (target / "mine" / "x").write_text("mine too")
    (target / "link").symlink_to("notes.txt")
    save(target, "two")
    assert read(target) == {"two"}
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / "mine" / "x").read_text() == "mine too"
    assert (target / "link").is_symlink()
    assert others(target) == []


def test_a_folder_that_is_not_ours_is_refused_and_untouched(tmp_path):
    (tmp_path / "labels.npy").write_text("the user's own")
    with pytest.raises(DataError, match=r"has no mark.json, so it is not ours.*labels.npy"):
        save(tmp_path, "one")
    assert [p.name for p in tmp_path.iterdir()] == ["labels.npy"]
    with pytest.raises(DataError, match="is a file"):
        check_replaceable(tmp_path / "labels.npy", "mark.json")
    check_replaceable(tmp_path, "mark.json", beside=["labels.npy"])


def test_an_error_leaves_the_old_one(tmp_path):
    target = tmp_path / "run"
    save(target, "one")
    with (
        pytest.raises(OSError, match="disk full"),
        replaced_folder(target, marker="mark.json", owned=OWNED) as fresh,
    ):
        (fresh / "a").write_text("two")
        raise OSError("disk full")
    assert read(target) == {"one"} and others(target) == []


@pytest.mark.parametrize("way", ["exchange", "renames", "mount point"])
def test_every_way_of_swapping(tmp_path, monkeypatch, way):
    target = tmp_path / "run"
    save(target, "one")
    if way != "exchange":
        monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    if way == "mount point":
        rename = os.rename

        def refuses(source, place):
            if Path(source) == target:
                raise OSError("busy")
            rename(source, place)

        monkeypatch.setattr(os, "rename", refuses)
    save(target, "two")
    assert read(target) == {"two"} and others(target) == []


def test_what_a_writer_killed_between_two_renames_left_goes_with_the_next_save(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    aside = tmp_path / f".run.{machine_id()}-{dead.pid}-0123abcd-old.tmp"
    save(aside, "old")
    save(tmp_path / "run", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_folders import save
for number in range(10_000):
    save(sys.argv[1], sys.argv[3] + str(number))
    print(number, flush=True)
"""


def writer(target, name):
    here = str(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), here, name], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_kills_leave_a_whole_folder_and_the_next_save_sweeps(tmp_path):
    target = tmp_path / "run"
    save(target, "old")
    for _ in range(6):
        process = writer(target, "w")
        process.stdout.readline()
        time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(read(target)) == 1
    save(target, "last")
    assert read(target) == {"last"} and others(target) == []


@pytest.mark.slow
def test_two_writers_never_mix(tmp_path):
    target = tmp_path / "run"
    save(target, "old")
    both = [writer(target, name) for name in "xy"]
    try:
        for process in both:
            process.stdout.readline()
        for _ in range(100):
            handle = os.open(target, os.O_RDONLY)  # one folder, whatever takes its place
            try:
                texts = set()
                for name in ("a", "b", "mark.json", "part/c"):
                    part = os.open(name, os.O_RDONLY, dir_fd=handle)
                    texts.add(os.read(part, 100))
                    os.close(part)
                assert len(texts) == 1
            except FileNotFoundError:
                pass  # it was replaced and removed while it was read
            finally:
                os.close(handle)
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert len(read(target)) == 1
