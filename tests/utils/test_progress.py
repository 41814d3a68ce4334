"""Bars on a terminal with rows/s and time left; not a byte anywhere else."""

import io
import sys

import numpy as np
import pytest
from helpers_text import WordEncoder, topic_texts

import fmcluster as fmc
from fmcluster.heads import make_head
from fmcluster.utils import progress as _progress


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Put a terminal in place of stderr; called in the test, as pytest sets stderr anew for it."""

    def start():
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.delenv(_progress.QUIET_VARIABLE, raising=False)
        return screen

    return start


def test_a_bar_shows_count_rate_and_time_left(terminal):
    screen = terminal()
    with _progress.bar(total=100, description="embed") as shown:
        shown.update(40)
        shown.refresh()
        text = screen.getvalue()
    assert "embed" in text
    assert "40/100" in text
    assert "rows/s" in text
    assert "<" in text  # elapsed<left


def test_embedding_indexing_and_training_draw_one_each(terminal, tmp_path):
    screen = terminal()
    store = fmc.embed(topic_texts(), encoder=WordEncoder(), folder=tmp_path / "s")
    assert "embed" in screen.getvalue()
    fmc.KNNGraph.build(np.asarray(store), k=5)
    assert "neighbors" in screen.getvalue()
    make_head("scan", n_clusters=3, epochs=2, random_state=0).fit(store)
    assert "training" in screen.getvalue()


def test_quiet_and_other_processes_draw_nothing(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setenv(_progress.QUIET_VARIABLE, "1")
    assert not _progress.enabled()
    monkeypatch.delenv(_progress.QUIET_VARIABLE)
    assert _progress.enabled()
    monkeypatch.setattr("fmcluster.utils.distributed.is_main", lambda: False)
    assert not _progress.enabled()
    list(_progress.track(range(3), description="x", unit="y"))
    assert screen.getvalue() == ""


def test_off_a_terminal_nothing_is_written(capsys, tmp_path):
    fmc.embed(topic_texts(), encoder=WordEncoder(), folder=tmp_path / "s")
    assert list(_progress.track("abc", description="x", unit="y")) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_without_a_stderr_it_still_runs(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not _progress.enabled()
