"""Audio models of transformers, tiny and random, in their real formats, against the library."""

from __future__ import annotations

import numpy as np
import pytest

from fmcluster.embedding.data.audio import Sound, to_sound
from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.audio.transformer import AudioEncoder, is_audio
from fmcluster.embedding.encoders.audio.windows import cut
from fmcluster.embedding.encoders.augment import augment, augment_fingerprint
from fmcluster.embedding.encoders.base import Run

pytest.importorskip("soxr")

CONVOLUTIONS = {
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
BODY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}


def tiny(kind: str):
    """Return a tiny random model of a family, and its feature extractor."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    waveform = {**BODY, **CONVOLUTIONS}
    plain = t.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    if kind == "wav2vec2":
        return t.Wav2Vec2Model(t.Wav2Vec2Config(**waveform)), plain
    if kind == "wav2vec2-layer":
        config = t.Wav2Vec2Config(**waveform, feat_extract_norm="layer", do_stable_layer_norm=True)
        return t.Wav2Vec2Model(config), t.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    if kind == "hubert":
        return t.HubertModel(t.HubertConfig(**waveform)), plain
    if kind == "wavlm":
        return t.WavLMModel(t.WavLMConfig(**waveform)), plain
    if kind == "unispeech-sat":
        return t.UniSpeechSatModel(t.UniSpeechSatConfig(**waveform)), plain
    if kind == "whisper":
        config = t.WhisperConfig(
            d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=60,
            num_mel_bins=20, max_source_positions=200, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1, init_std=0.3,
        )  # fmt: skip
        return t.WhisperModel(config), t.WhisperFeatureExtractor(feature_size=20, chunk_length=4)
    if kind == "clap":
        audio = {
            "spec_size": 64, "num_mel_bins": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1],
            "num_attention_heads": [1, 2], "window_size": 4, "patch_size": 4, "hidden_size": 16,
            "patch_stride": [4, 4], "num_classes": 3, "enable_fusion": True,
        }  # fmt: skip
        text = {**BODY, "vocab_size": 60, "max_position_embeddings": 20}
        config = t.ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
        return t.ClapModel(config), t.ClapFeatureExtractor(
            feature_size=16, sampling_rate=16_000, max_length_s=2, hop_length=160
        )
    config = t.ASTConfig(**BODY, num_mel_bins=32, max_length=128)
    return t.ASTModel(config), t.ASTFeatureExtractor(num_mel_bins=32, max_length=128)


KINDS = (
    *("wav2vec2", "wav2vec2-layer", "hubert", "wavlm", "unispeech-sat"),
    *("whisper", "clap", "audio-spectrogram-transformer"),
)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            for part in tiny(kind):
                part.save_pretrained(made[kind])
        return made[kind]

    return make


def tones(count: int, *, rate: int = 16_000, longest: float = 1.2, seed: int = 0) -> list[Sound]:
    """Make short sounds of different lengths: each two tones and some noise."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        time = np.arange(int(rate * draw.uniform(0.1, longest))) / rate
        low, high = draw.uniform(80, 3000, 2)
        wave = 0.3 * np.sin(2 * np.pi * low * time) + 0.2 * np.sin(2 * np.pi * high * time**2)
        found.append(Sound((wave + 0.02 * draw.normal(size=len(time))).astype(np.float32), rate))
    return found


def reference(folder, rows, kind):
    """Return what transformers gives for each recording by itself, pooled as it is stated."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    out = []
    with torch.inference_mode():
        for row in rows:
            given = extractor(row.samples, sampling_rate=16_000, return_tensors="pt")
            if kind == "whisper":
                states = model.encoder(given["input_features"]).last_hidden_state[0]
                found = states[: int(np.ceil(len(row.samples) / 320))].mean(0)
            elif kind == "clap":
                longer = torch.zeros(1, 1, dtype=torch.bool)
                found = model.get_audio_features(given["input_features"], is_longer=longer)
                found = (found if hasattr(found, "shape") else found.pooler_output)[0]
            elif kind == "audio-spectrogram-transformer":
                found = model(**given).pooler_output[0]
            else:
                found = model(given["input_values"]).last_hidden_state[0].mean(0)
            out.append(found.numpy())
    return np.stack(out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_family_is_the_library_row_by_row(kind, folder_of, cosine, same_whatever_the_batching):
    folder, rows = folder_of(kind), tones(66)  # a batch of 64, and two more
    expected = reference(folder, rows, kind)
    for size in (1, 7, 64):
        found = AudioEncoder(folder, run=Run(batch_size=size)).encode(rows)
        assert cosine(found, expected) >= 0.9999
        # Random networks give much in common to all rows: what tells them apart has to agree, too.
        assert cosine(found - expected.mean(0), expected - expected.mean(0)) >= 0.999
    same_whatever_the_batching(
        lambda batch_size: AudioEncoder(folder, run=Run(batch_size=batch_size)), rows[:12]
    )


@pytest.mark.parametrize("kind", ["hubert", "whisper", "clap"])
def test_long_recordings_are_the_mean_of_their_windows(kind, folder_of, monkeypatch, cosine):
    from fmcluster.embedding.encoders.audio import transformer

    monkeypatch.setattr(transformer, "WAVEFORM_SECONDS", 2)
    encoder = AudioEncoder(folder_of(kind))
    long = tones(1, longest=1.2, seed=3)[0]
    samples = np.tile(long.samples, 200)[: encoder.longest * 2 + 777]
    parts = cut(samples, encoder.longest)
    assert [len(part) for part in parts] == pytest.approx([len(samples) / 3] * 3, abs=1)
    each = encoder.encode([Sound(part, 16_000) for part in parts])
    whole = encoder.encode([Sound(samples, 16_000)])
    assert cosine(whole, each.mean(0, keepdims=True)) > 0.9999
    if encoder.unit:
        np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_other_rates_are_resampled(folder_of, cosine):
    encoder = AudioEncoder(folder_of("hubert"))
    time = np.arange(44_100) / 44_100
    wave = (0.3 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    high = {"array": wave, "sampling_rate": 44_100}
    low = {"array": 0.3 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)}
    found = encoder.encode([high, {**low, "sampling_rate": 16_000}])
    assert cosine(found[:1], found[1:]) > 0.999


def test_very_short_and_silent_recordings(folder_of):
    for kind in ("wav2vec2", "whisper", "clap", "audio-spectrogram-transformer"):
        rows = [Sound(np.full(n, 0.1, np.float32), 16_000) for n in (1, 50, 4000)]
        found = AudioEncoder(folder_of(kind)).encode(
            [*rows, Sound(np.zeros(999, np.float32), 8_000)]
        )
        assert found.shape[0] == 4 and np.isfinite(found).all()
    assert AudioEncoder(folder_of("hubert")).encode([]).shape[0] == 0


def test_resolved_by_what_the_folder_holds(folder_of):
    encoder = resolve(folder_of("clap"))
    assert isinstance(encoder, AudioEncoder) and encoder.modality == "audio"
    again = resolve(encoder.spec, modality="audio")
    assert again.fingerprint == encoder.fingerprint
    other = resolve({"encoder": str(folder_of("clap")), "pooling": "pooler"})
    assert other.fingerprint != encoder.fingerprint
    assert other.encode(tones(2)).shape == (2, 16)
    assert is_audio(folder_of("whisper"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pooling": "cls"}, "'hubert' has mean"),
        ({"prompt": "query: "}, "prompt"),
    ],
)
def test_what_an_audio_model_does_not_have(given, said, folder_of):
    with pytest.raises(ValueError, match=said):
        resolve({"encoder": str(folder_of("hubert")), **given})
    with pytest.raises(ValueError, match="takes recordings, the data are texts"):
        resolve(folder_of("hubert"), modality="text")


def test_a_family_that_is_not_known(tmp_path, folder_of):
    import json

    for name in ("config.json", "preprocessor_config.json"):
        text = (folder_of("hubert") / name).read_text().replace('"hubert"', '"sew"')
        (tmp_path / name).write_text(text)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "sew"
    with pytest.raises(ValueError, match="family 'sew' are not known: known are wav2vec2"):
        resolve(tmp_path)


def test_texts_and_images_are_refused_by_their_type(folder_of):
    with pytest.raises(TypeError, match="needs recordings, got str"):
        AudioEncoder(folder_of("hubert")).encode(["a.wav"])


def test_views_are_the_same_for_the_same_seed():
    rows = tones(5)
    for strength in ("weak", "strong"):
        one = augment(rows, "audio", strength=strength, seed=1)
        two = augment(rows[2:], "audio", strength=strength, seed=1, row_offset=2)
        for a, b in zip(one[2:], two, strict=True):
            np.testing.assert_array_equal(a.samples, b.samples)
        other = augment(rows, "audio", strength=strength, seed=2)
        assert all(len(o.samples) <= len(r.samples) for o, r in zip(one, rows, strict=True))
        assert not np.array_equal(one[0].samples[:100], other[0].samples[:100])
    assert augment_fingerprint("audio")["settings"]["gain"] == 6.0
    assert to_sound(one[0]) is one[0]
