"""Recordings as rows: every kind of file, folder, archive and column; each damaged, too."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data import audio
from fmcluster.embedding.data.audio import Sound, UnreadableAudio, playable, to_sound
from fmcluster.embedding.data.blocks import decoded_blocks
from fmcluster.embedding.data.labels import read_labels
from fmcluster.embedding.data.source import Source
from fmcluster.utils.errors import DataError

soundfile = pytest.importorskip("soundfile")
KINDS = {
    "wav": {"format": "WAV"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
}
RATE = 16_000


def tone(number: int, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    time = np.arange(int(rate * seconds)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 150 * number) * time)).astype(np.float32)


def encoded(wave: np.ndarray, kind: str = "wav", rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, rate, **KINDS[kind])
    return out.getvalue()


class Pitch:
    """Where between 0 and 2 kHz the loudest frequency of a recording is."""

    modality, fingerprint = "audio", "pitch-1"

    def encode(self, rows):
        return [[pitch(row) / 1000, 2 - pitch(row) / 1000] for row in rows]


def pitch(sound) -> float:
    return float(np.abs(np.fft.rfft(sound.samples)).argmax() / sound.seconds)


def rows_of(data, **options):
    source = Source(data, **options)
    assert source.modality == "audio"
    found = source.decode(list(source), 0)
    assert source.n_rows == len(found.rows)
    return found.rows, found.ids.tolist()


def pitches(rows):
    return [round(pitch(row)) for row in rows]


@pytest.fixture
def folder(tmp_path):
    """Six recordings in two folders, one of each kind, and a text beside them."""
    for number, kind in enumerate(KINDS):
        path = tmp_path / "r" / ("low" if number < 3 else "high") / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(tone(number), kind))
    (tmp_path / "r" / "about.txt").write_text("six tones")
    return tmp_path / "r"


IDS = ["high/3.opus", "high/4.mp3", "high/5.aiff", "low/0.wav", "low/1.flac", "low/2.ogg"]
WANTED = [650, 800, 950, 200, 350, 500]


# -- what a file is ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_known_by_its_bytes(kind):
    content = encoded(np.stack([tone(2), tone(2)], axis=1), kind)
    assert audio.starts_as_audio(content[:16])
    sound = audio.decode_audio(content)
    assert pitches([sound]) == [500]
    assert sound.seconds == pytest.approx(0.5, abs=0.02)
    assert audio.audio_bytes(content) == pytest.approx(4 * len(sound.samples), rel=0.1)
    assert Source([content]).modality == "audio"


def test_images_are_not_taken_for_recordings():
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF"):
        out = io.BytesIO()
        Image.new("RGB", (4, 4)).save(out, kind)
        assert not audio.starts_as_audio(out.getvalue()[:16]), kind


def test_channels_are_averaged():
    both = np.stack([tone(0), np.zeros_like(tone(0))], axis=1)
    found = audio.decode_audio(encoded(both)).samples
    np.testing.assert_allclose(found, tone(0) / 2, atol=1e-4)


# A cut Opus stream decodes to what is left of it, and says nothing.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "opus"])
def test_what_is_cut_short_is_refused(kind):
    content = encoded(tone(1, 6.0, 48_000), kind, 48_000)
    for share in (0.5, 0.0005):
        with pytest.raises(UnreadableAudio) as caught:
            audio.decode_audio(content[: int(share * len(content))])
        assert "\n" not in str(caught.value)


def test_headers_that_promise_nothing_are_no_damage():
    piped = bytearray(encoded(tone(1)))
    piped[4:8] = piped[40:44] = b"\xff\xff\xff\xff"  # what a writer to a pipe leaves
    assert len(audio.decode_audio(bytes(piped)).samples) == len(tone(1))


def test_samples_in_memory():
    wave = tone(0)
    whole = (wave * 32767).astype(np.int16)
    for array in (wave, wave.astype(np.float64), whole, whole[None], whole[:, None]):
        found = to_sound({"array": array, "sampling_rate": RATE})
        np.testing.assert_allclose(found.samples, wave, atol=1e-3)
        assert found.samples.dtype == np.float32

    class Decoder:
        def get_all_samples(self):
            return type("Samples", (), {"data": wave[None], "sample_rate": RATE})()

    rows, _ = rows_of([Sound(wave, RATE), Decoder(), {"array": whole, "sampling_rate": RATE}])
    assert pitches(rows) == [200] * 3
    one = Source([{"array": wave, "sampling_rate": RATE}]).fingerprint
    assert one == Source([{"array": wave[None], "sampling_rate": RATE}]).fingerprint
    assert one != Source([{"array": wave, "sampling_rate": 8000}]).fingerprint


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"array": np.zeros(0), "sampling_rate": RATE}, "no samples"),
        ({"array": [0.1, np.nan], "sampling_rate": RATE}, "not numbers"),
        ({"array": [0.1, 0.2], "sampling_rate": 0}, "sampling rate of 0"),
        ({"array": [["a"]], "sampling_rate": RATE}, "no recording"),
        (b"RIFF\0\0\0\0WAVE", "cannot be read"),
        (b"nothing of the kind", "cannot be read"),
        (b"", "cannot be read"),
        ({"bytes": None, "path": "gone.wav"}, "cannot be read"),
        ({"bytes": None, "path": None}, "the audio is missing"),
        (None, "the audio is missing"),
    ],
)
def test_a_damaged_row_is_named_and_left_out_or_marked(row, said, tmp_path):
    data = [encoded(tone(n)) for n in range(5)]
    data[3] = row
    source = Source(data)
    with pytest.raises(DataError, match=f"row 3: .*{said}") as caught:
        source.decode(data, 0)
    assert "\n" not in str(caught.value)
    options = {"encoder": Pitch(), "cache_dir": tmp_path}
    skipped = fmc.embed(data, on_error="skip", **options)
    assert skipped.ids.tolist() == [0, 1, 2, 4] and skipped.skipped_ids == [3]
    np.testing.assert_allclose(skipped.space()[:, 0], [0.2, 0.35, 0.5, 0.8], atol=2e-3)
    marked = fmc.embed(data, on_error="mark", **options)
    assert marked.bad_ids == [3] and not np.asarray(marked.space())[3].any()


def test_too_long_a_row_is_refused(monkeypatch):
    monkeypatch.setattr(audio, "MOST_SAMPLES", 1000)
    for kind in ("wav", "mp3"):
        with pytest.raises(UnreadableAudio, match="hours long .*cut it into rows"):
            audio.decode_audio(encoded(tone(0), kind))
    with pytest.raises(UnreadableAudio, match="hours long"):
        to_sound({"array": tone(0), "sampling_rate": RATE})


# -- where recordings are ---------------------------------------------------------------------


def test_a_folder(folder, caplog):
    with caplog.at_level(logging.WARNING):
        rows, ids = rows_of(folder)
    assert ids == IDS and pitches(rows) == WANTED
    assert "1 file(s)" in caplog.text and "'about.txt'" in caplog.text
    assert read_labels(folder).tolist() == ["high"] * 3 + ["low"] * 3


def test_a_folder_of_both_asks_which(folder):
    Image.new("RGB", (4, 4)).save(folder / "cover.png")
    with pytest.raises(DataError, match="1 images and 6 recordings: say which.*modality='audio'"):
        Source(folder)
    assert rows_of(folder, modality="audio")[1] == IDS
    assert Source(folder, modality="image").n_rows == 1
    assert len(read_labels(folder, modality="audio")) == 6


def test_patterns_and_tables_of_paths(folder, tmp_path):
    assert pitches(rows_of(folder / "low" / "*")[0]) == [200, 350, 500]
    table = pd.DataFrame({"file": IDS, "key": range(6)})
    table.to_csv(folder / "t.csv", index=False)
    rows, ids = rows_of(folder / "t.csv", id_column="key")
    assert ids == list(range(6)) and pitches(rows) == WANTED
    paths = [folder / name for name in IDS]
    assert pitches(rows_of(paths)[0]) == pitches(rows_of([str(p) for p in paths])[0]) == WANTED
    table.loc[2, "file"] = "low/none.wav"
    table.to_csv(folder / "t.csv", index=False)
    with pytest.raises(DataError, match="row 2: the recording cannot be read"):
        rows_of(folder / "t.csv", column="file")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives(kind, folder, tmp_path):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in [*IDS, "about.txt"]:
                archive.write(folder / name, name)
    else:
        with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
            for name in [*IDS, "about.txt"]:
                archive.add(folder / name, name)
    rows, ids = rows_of(path)
    assert ids == IDS and pitches(rows) == WANTED
    content = path.read_bytes()
    (tmp_path / f"half.{kind}").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / f"half.{kind}")
    assert "half" in str(caught.value) and "\n" not in str(caught.value)


def test_columns_of_bytes(folder, tmp_path):
    contents = [(folder / name).read_bytes() for name in IDS]
    table = pa.table({"sound": [{"bytes": c, "path": None} for c in contents], "key": IDS})
    pq.write_table(table, tmp_path / "t.parquet")
    rows, ids = rows_of(tmp_path / "t.parquet", id_column="key")
    assert ids == IDS and pitches(rows) == WANTED
    assert pitches(rows_of(pa.table({"sound": contents}))[0]) == WANTED
    frame = pd.DataFrame({"sound": contents, "said": ["a"] * 6})
    assert pitches(rows_of(frame)[0]) == WANTED


def test_audio_columns_of_datasets(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    contents = [{"bytes": (folder / name).read_bytes(), "path": None} for name in IDS]
    contents[1] = None
    ds = datasets.Dataset.from_dict({"audio": contents, "text": IDS})
    ds = ds.cast_column("audio", datasets.Audio())
    for data in (ds, ds.to_iterable_dataset()):
        source = Source(data)
        assert (source.modality, source.column) == ("audio", "audio")
        found = source.decode(list(source), 0, on_error="mark")
        assert pitches(found.rows[:1] + found.rows[2:]) == WANTED[:1] + WANTED[2:]
        assert found.problems == {1: "the audio is missing"}
    ds.to_parquet(tmp_path / "d.parquet")
    assert Source(tmp_path / "d.parquet").fingerprint == Source(ds).fingerprint
    ds.save_to_disk(tmp_path / "saved")
    assert Source(tmp_path / "saved").modality == "audio"


def test_a_column_whose_first_row_is_damaged_is_still_of_audio(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": b"junk", "path": None}, {"bytes": encoded(tone(1)), "path": None}]
    ds = datasets.Dataset.from_dict({"audio": rows}).cast_column("audio", datasets.Audio())
    store = fmc.embed(ds, encoder=Pitch(), on_error="skip", cache_dir=tmp_path)
    assert store.ids.tolist() == [1]
    ds.to_parquet(tmp_path / "d.parquet")
    assert Source(tmp_path / "d.parquet").modality == "audio"


# -- through the whole product ----------------------------------------------------------------


def test_recordings_are_clustered_and_predicted(tmp_path):
    for number in range(30):
        wave = tone(5 * (number % 3), 0.3 + 0.01 * number)
        soundfile.write(tmp_path / f"{number:02}.wav", wave, RATE)
    store = fmc.embed(tmp_path, encoder=Pitch(), cache_dir=tmp_path / "cache", n_views=1)
    assert store.fingerprint and np.asarray(store.views()[0]).shape == (30, 2)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    for pitch in range(3):
        assert len(set(result.labels[pitch::3].tolist())) == 1
    assert len(set(result.labels.tolist())) == 3
    found = result.predict(tmp_path, encoder=Pitch())
    np.testing.assert_array_equal(found, result.labels)
    again = fmc.embed(tmp_path, encoder=Pitch(), cache_dir=tmp_path / "cache", n_views=1)
    assert again.folder == store.folder


def test_rows_that_are_known_are_copied(tmp_path):
    waves = [encoded(tone(n)) for n in range(4)]
    options = {"encoder": Pitch(), "cache_dir": tmp_path}
    fmc.embed(waves[:3], **options)
    grown = fmc.embed([waves[3], *waves[:3]], **options)
    assert grown.n_reused == 3
    np.testing.assert_allclose(grown.space()[:, 0], [0.65, 0.2, 0.35, 0.5], atol=2e-3)


def test_long_recordings_fill_a_block(monkeypatch):
    from fmcluster.embedding.data import blocks

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100_000)
    source = Source([encoded(tone(n)) for n in range(5)])  # 32 kB of samples each
    found = list(decoded_blocks(source, list(source), 0, most_rows=100))
    assert [len(block.rows) for block in found] == [3, 2]


def test_clips_for_pages():
    sound = Sound(tone(0, 20.0, 44_100), 44_100)
    content, mime = playable(sound)
    assert mime in ("audio/mpeg", "audio/wav")
    clip = audio.decode_audio(content)
    assert clip.seconds == pytest.approx(10, abs=0.1) and pitches([clip]) == [200]
    assert mime == "audio/wav" or len(content) < 100_000
    assert audio.decode_audio(playable(sound, seconds=None)[0]).seconds == pytest.approx(
        20, abs=0.1
    )
    odd = playable(Sound(tone(0, 1.0, 9_999), 9_999))[0]
    assert pitches([audio.decode_audio(odd)])[0] == pytest.approx(200, abs=2)


def test_the_base_install_says_what_is_missing(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(tone(0)))
    code = (
        "import sys; sys.modules['soundfile'] = sys.modules['soxr'] = None\n"
        "from fmcluster.utils.errors import MissingExtraError\n"
        "from fmcluster.embedding.data.source import Source\n"
        "assert not {'torch', 'faiss', 'transformers', 'datasets'} & set(sys.modules)\n"
        "source = Source([sys.argv[1]])\n"
        "try: source.decode(list(source), 0)\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "fmcluster[audio]" in done.stdout, done.stderr
