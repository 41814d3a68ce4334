"""The log: what is acknowledged is there, torn lines are not, foreign files are refused."""

import json
import os

import pytest

from fmcluster.app.log import ActionLog
from fmcluster.utils.errors import CorruptShardError


def label(number):
    return {"op": "label", "ids": [number], "label": "bée"}


def test_entries_come_back_in_order(tmp_path):
    log = ActionLog(tmp_path)
    assert log.unsaved() == []
    for number in range(3):
        log.append(label(number))
    assert log.unsaved() == [label(0), label(1), label(2)]
    assert log.path.stat().st_mode & 0o077 == 0, "answers are the person's own"


def test_what_was_saved_is_passed_over_but_for_what_is_pending(tmp_path):
    log = ActionLog(tmp_path)
    log.append(label(0))
    log.append({"op": "saved", "pending": [label(1)]})
    log.append(label(2))
    assert log.unsaved() == [label(1), label(2)]


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_torn_line_is_passed_over_and_joins_nothing(tmp_path, cut):
    log = ActionLog(tmp_path)
    log.append(label(0))
    line = json.dumps(label(1), ensure_ascii=False, separators=(",", ":")).encode()
    with log.path.open("ab") as file:
        file.write(line[:cut])
    assert log.unsaved() == [label(0)]
    log.append(label(2))
    assert log.unsaved() == [label(0), label(2)]


def test_a_whole_line_without_its_end_counts(tmp_path):
    log = ActionLog(tmp_path)
    log.path.write_bytes(json.dumps(label(0)).encode())
    assert log.unsaved() == [label(0)]
    log.append(label(1))
    assert log.unsaved() == [label(0), label(1)]


@pytest.mark.parametrize("line", [b"hello\n", b'{"a":1}\n', b"[1]\n", b"\xff\xfe\n"])
def test_a_file_that_is_not_ours_is_refused(tmp_path, line):
    log = ActionLog(tmp_path)
    log.path.write_bytes(line)
    with pytest.raises(CorruptShardError, match="line 1"):
        log.unsaved()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no links to refuse here")
def test_a_link_is_no_log(tmp_path):
    """A run may come from anybody: its log must not lead to another file."""
    (tmp_path / "run").mkdir()
    log = ActionLog(tmp_path / "run")
    log.path.symlink_to(tmp_path / "other")
    with pytest.raises(CorruptShardError, match="is a link"):
        log.unsaved()
    with pytest.raises(OSError, match="symbolic"):
        log.append(label(0))
    assert not (tmp_path / "other").exists()
