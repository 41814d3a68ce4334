"""The voice encoder, against what its package gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fmcluster.embedding.data.audio import Sound
from fmcluster.embedding.encoders import catalog, resolve
from fmcluster.embedding.encoders.audio import resemblyzer
from fmcluster.embedding.encoders.audio.resemblyzer import VoiceEncoder, window_starts
from fmcluster.embedding.encoders.base import Run
from fmcluster.utils.errors import MissingExtraError

needs_weights = pytest.mark.skipif(
    resemblyzer.weights_file() is None, reason="pip install --no-deps Resemblyzer"
)
# What Resemblyzer 0.1.4 gives for `voice(n, seconds)`: VoiceEncoder.embed_utterance of
# normalize_volume(wave, -30, increase_only=True), with librosa 0.11; rounded.
REFERENCE = Path(__file__).with_name("resemblyzer_reference.json")
SECONDS = (0.4, 3.1, 12.0)


def voice(number: int, seconds: float, rate: int = 16_000) -> np.ndarray:
    """A buzz through two moving resonances: what a voice is to a spectrogram."""
    time = np.arange(int(rate * seconds)) / rate
    pitch = 90 + 35 * number + 12 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(
        np.sin(k * phase) * np.exp(-(((k * pitch - (400 + 150 * number)) / 250) ** 2))
        + 0.4 * np.sin(k * phase)
        * np.exp(-(((k * pitch - 1900 + 200 * np.sin(3 * time)) / 300) ** 2))
        for k in range(1, 25)
    )  # fmt: skip
    loudness = 0.05 * (number + 1) * (0.6 + 0.4 * np.sin(2 * np.pi * 2.3 * time))
    return (loudness * wave).astype(np.float32)


@needs_weights
def test_rows_are_those_of_the_package(cosine):
    rows = [Sound(voice(n, seconds), 16_000) for n, seconds in enumerate(SECONDS)]
    expected = np.array(json.loads(REFERENCE.read_text()))
    for size in (1, 7, 64):
        many = 22 if size == 64 else 4  # over a batch of rows, of unlike lengths
        found = VoiceEncoder(run=Run(device="cpu", batch_size=size)).encode(rows * many)
        assert found.shape == (3 * many, 256)
        assert cosine(found, np.tile(expected, (many, 1))) >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@needs_weights
def test_rows_depend_on_themselves_alone(same_whatever_the_batching):
    rows = [Sound(voice(n % 7, 0.3 + 0.2 * n), 16_000) for n in range(12)]
    same_whatever_the_batching(
        lambda batch_size: VoiceEncoder(run=Run(batch_size=batch_size)), rows
    )


@needs_weights
def test_it_is_resolved_by_its_name():
    encoder = resolve("packaged:resemblyzer", modality="audio")
    assert encoder.modality == "audio" and encoder.dim == 256
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint
    with pytest.raises(ValueError, match="input size"):
        resolve("packaged:resemblyzer@64")
    with pytest.raises(ValueError, match="takes recordings, the data are texts"):
        resolve("packaged:resemblyzer", modality="text")
    assert encoder.encode([]).shape == (0, 256)
    silent = encoder.encode([Sound(np.zeros(100, np.float32), 8_000)])
    assert np.isfinite(silent).all()


def test_without_the_weights_the_command_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps Resemblyzer"):
        resolve("packaged:resemblyzer")
    known = {each.name: each for each in catalog.available()}
    assert not known["packaged:resemblyzer"].at_hand
    assert "--no-deps Resemblyzer" in known["packaged:resemblyzer"].about


def test_windows_cover_the_recording():
    assert window_starts(1) == ([0], 25_600)
    starts, padded = window_starts(16_000 * 10)
    assert starts[1] == resemblyzer.SHIFT and padded <= 16_000 * 10 + 0.25 * 25_600
    assert padded >= 16_000 * 10 - resemblyzer.SHIFT * 160
