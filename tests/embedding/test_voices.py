"""Speech through the whole product: files, the packaged encoder of voices, clusters, pages."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers_speech import say

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.embedding.encoders.audio import resemblyzer
from fmcluster.utils.errors import DataError

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
pytestmark = pytest.mark.skipif(
    resemblyzer.weights_file() is None, reason="pip install --no-deps Resemblyzer"
)
# A man, a woman, and one who whispers: voices that a person tells apart at once.
VOICES = ("en-us+m3", "en-us+f2", "en-us+whisper")
SENTENCES = (
    "the water runs down the hill",
    "please close the window tonight",
    "my brother sold his old car",
    "we walked home in the rain",
    "nine birds sat on the wire",
    "she writes a letter every week",
    "the train leaves at half past ten",
    "he never liked the taste of fish",
    "a storm is coming from the west",
    "they painted the kitchen yellow",
)
NEW = ("call me when you get there", "our garden needs more sun")
ENCODER = "packaged:resemblyzer"


def record(folder, sentences):
    """Write a file for each voice and sentence, in kinds and rates that people have."""
    folder.mkdir()
    for number, sentence in enumerate(sentences):
        for who, voice in enumerate(VOICES):
            sound = say(sentence, voice)
            kind = ("wav", "flac", "ogg")[number % 3]
            sound = sound.at(44_100) if number % 4 == 1 else sound
            soundfile.write(folder / f"{number:02}-{who}.{kind}", sound.samples, sound.rate)
    return folder


def speaker_of(ids):
    return np.array([int(re.search(r"-(\d)\.", name)[1]) for name in ids])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record(tmp_path_factory.mktemp("speech") / "recordings", SENTENCES)


@pytest.fixture(scope="module")
def run(recordings, tmp_path_factory):
    """What the shell makes of the folder."""
    home = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMCLUSTER_CACHE", str(home / "cache"))
        line = ["cluster", recordings, "--encoder", ENCODER, "--n-clusters", len(VOICES)]
        assert main([*map(str, line), "--out", str(home / "run"), "--quiet"]) == 0
    return home / "run"


def test_clusters_are_voices_and_not_sentences(run):
    result = fmc.ClusterResult.load(run)
    assert result.n_rows == len(VOICES) * len(SENTENCES)
    assert result.evaluate(speaker_of(result.ids))["acc"] >= 0.95


def test_new_recordings_fall_to_their_voice(run, tmp_path):
    result = fmc.ClusterResult.load(run)
    new = record(tmp_path / "new", NEW)
    out = tmp_path / "new.parquet"
    assert main(["predict", str(run), str(new), "--out", str(out), "--quiet"]) == 0
    table = pd.read_parquet(out)
    who = speaker_of(result.ids)
    most = [np.bincount(result.labels[who == each]).argmax() for each in range(len(VOICES))]
    assert len(table) == len(VOICES) * len(NEW)
    assert np.mean(table["cluster"] == np.take(most, speaker_of(table["id"]))) >= 5 / 6


def test_page_and_app_play_them(run, recordings, tmp_path):
    from fmcluster.app.session import Session
    from fmcluster.embedding.data.source import Source

    out = tmp_path / "page.html"
    line = ["report", run, "--data", recordings, "--out", out, "--quiet"]
    assert main([str(each) for each in line]) == 0
    page = out.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data["kind"] == "audio" and "media-src data:" in page
    for cluster in data["clusters"]:
        assert all(row["audio"].startswith("data:audio/") for row in cluster["typical"])
    source = Source(recordings)
    session = Session(fmc.ClusterResult.load(run), run, source=source)
    assert session.rows.kind == "audio"
    shown = session.rows.show(np.arange(4))
    assert all(row["audio"].startswith("data:audio/") for row in shown)


def test_recordings_dropped_on_the_app_join_their_voice(run, recordings, tmp_path):
    from fmcluster.app import incoming
    from fmcluster.app.session import Session
    from fmcluster.embedding.data.source import Source

    store = fmc.embed(recordings, encoder=ENCODER, folder=tmp_path / "store")
    folder = shutil.copytree(run, tmp_path / "run")
    result = fmc.ClusterResult.load(folder).attach(store)
    session = Session(result, folder, source=Source(recordings))
    batch = incoming.new_batch(folder)
    with pytest.raises(ValueError, match="'a.png' is no file that this run takes: .*flac"):
        incoming.place_of(folder, batch, "a.png", session.result)
    for who, voice in enumerate(VOICES):
        path = incoming.place_of(folder, batch, f"new-{who}.wav", session.result)
        sound = say(NEW[0], voice)
        soundfile.write(path, sound.samples, sound.rate)
    told = session.update(batch)
    assert (told["first"], told["rows"], told["left_out"]) == (len(store.ids), 3, 0)
    grown = session.result
    assert grown.ids[-3:].tolist() == ["new-0.wav", "new-1.wav", "new-2.wav"]
    assert session.rows.show(np.array([len(store.ids)]))[0]["audio"].startswith("data:audio/")


def test_a_damaged_file_is_one_line_and_the_others_keep_their_rows(run, recordings, tmp_path):
    folder = tmp_path / "recordings"
    shutil.copytree(recordings, folder)
    damaged = folder / "04-1.flac"
    damaged.write_bytes(damaged.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"row '04-1\.flac'.*on_error='skip'") as told:
        fmc.embed(folder, encoder=ENCODER, folder=tmp_path / "none")
    assert "\n" not in str(told.value)
    whole = fmc.embed(recordings, encoder=ENCODER, folder=tmp_path / "whole")
    marked = fmc.embed(folder, encoder=ENCODER, folder=tmp_path / "marked", on_error="mark")
    skipped = fmc.embed(folder, encoder=ENCODER, folder=tmp_path / "skipped", on_error="skip")
    place = list(whole.ids).index("04-1.flac")
    X, there = np.asarray(whole.space()), np.arange(len(whole.ids)) != place
    np.testing.assert_array_equal(marked.ids, whole.ids)
    assert not np.asarray(marked.space())[place].any()
    np.testing.assert_array_equal(np.asarray(marked.space())[there], X[there])
    np.testing.assert_array_equal(skipped.ids, whole.ids[there])
    np.testing.assert_array_equal(np.asarray(skipped.space()), X[there])
