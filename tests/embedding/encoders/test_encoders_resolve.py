from __future__ import annotations

import json
import time

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve, sources
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.custom import ObjectEncoder
from fmcluster.utils.errors import EncoderUnavailableError


class Lengths:
    """A user's own encoder."""

    def encode(self, rows):
        return [[len(row), 1.0] for row in rows]


def test_any_object_with_encode():
    encoder = resolve(Lengths(), modality="text")
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, ObjectEncoder)
    out = encoder.encode(["a", "abc"])
    np.testing.assert_array_equal(out, [[1, 1], [3, 1]])
    assert out.dtype == np.float32
    assert encoder.dim == 2
    assert encoder.modality == "text"
    assert "Lengths" in json.dumps(encoder.fingerprint)
    assert resolve(encoder) is encoder
    with pytest.raises(ValueError, match="pass the object"):
        resolve(encoder.spec)


def test_an_object_says_who_it_is():
    import torch

    one, two = Lengths(), Lengths()
    assert resolve(one).fingerprint == resolve(two).fingerprint
    one.fingerprint = {"trained": 1}
    assert resolve(one).fingerprint["own"] == {"trained": 1}

    class Net(torch.nn.Linear):
        def encode(self, rows):
            return self(torch.tensor(rows))

    nets = [Net(2, 3) for _ in range(2)]
    prints = [resolve(net).fingerprint["weights"] for net in nets]
    assert prints[0] != prints[1]
    assert resolve(nets[0]).encode([[1.0, 2.0]]).shape == (1, 3)


@pytest.mark.parametrize("bad", [[[1.0]], [1.0, 2.0], [[[1.0]], [[2.0]]]])
def test_an_object_that_returns_another_shape(bad):
    class Wrong:
        def encode(self, rows):
            return np.asarray(bad)

    with pytest.raises(ValueError, match="one row of numbers each"):
        resolve(Wrong()).encode(["a", "b"])


def test_an_object_whose_length_changes():
    class Grows:
        def encode(self, rows):
            return np.ones((len(rows), len(rows)))

    encoder = resolve(Grows())
    encoder.encode(["a", "b"])
    with pytest.raises(ValueError, match="3 columns after 2"):
        encoder.encode(["a", "b", "c"])


@pytest.mark.parametrize("thing", [3, None, object(), ["packaged:minilm"]])
def test_what_is_no_encoder(thing):
    with pytest.raises(TypeError, match="name or an object with encode"):
        resolve(thing)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "openclip:ViT-B-32/openai", ""])
def test_names_that_are_nothing(name):
    with pytest.raises(ValueError, match="packaged:minilm"):
        resolve(name)


def test_auto_needs_a_modality_and_bad_ids_are_named():
    with pytest.raises(ValueError, match="modality="):
        resolve("auto")
    with pytest.raises(ValueError, match="modality='video'"):
        resolve("auto", modality="video")
    with pytest.raises(ValueError, match="Hub id"):
        resolve("a/b/c/d")


def test_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        resolve(tmp_path)


@pytest.mark.parametrize("name", ["auto", "facebook/dinov2-base", "someone/some-model"])
def test_hub_out_of_reach_is_one_error_at_once(name, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    with pytest.raises(EncoderUnavailableError) as caught:
        resolve(name, modality="image", cache_dir=tmp_path)
    assert time.monotonic() - started < 10
    assert "packaged:minilm" in str(caught.value)
    assert "packaged:efficientnet-lite2" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (name if name != "auto" else "facebook/dinov2-base") in str(caught.value)


def cached_snapshot(cache, repo, folder):
    """Lay `folder` into a Hub cache as the Hub's client would."""
    import shutil

    commit = "0123456789abcdef0123456789abcdef01234567"
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(folder, home / "snapshots" / commit)
    return commit, home / "snapshots" / commit


def test_a_cached_hub_model_works_offline(
    bert_folder, vision_folder, texts, images, tmp_path, monkeypatch
):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for repo, folder, rows in (
        ("someone/bert", bert_folder, texts),
        ("someone/dino", vision_folder("dinov2"), images),
    ):
        commit, _ = cached_snapshot(tmp_path, repo, folder)
        encoder = resolve(repo, cache_dir=tmp_path, precision="fp32")
        assert encoder.fingerprint["encoder"] == repo
        assert encoder.fingerprint["revision"] == commit
        local = resolve(folder, precision="fp32").encode(rows)
        np.testing.assert_array_equal(encoder.encode(rows), local)
        again = resolve(encoder.spec, cache_dir=tmp_path)
        assert again.fingerprint == encoder.fingerprint


def test_a_snapshot_without_weights_is_unavailable(bert_folder, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _, folder = cached_snapshot(tmp_path, "someone/empty", bert_folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderUnavailableError, match="packaged:minilm"):
        resolve("someone/empty", cache_dir=tmp_path)


def test_digest_sees_contents_not_places(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "README.md").write_text(name)
    a, b = tmp_path / "a", tmp_path / "b"
    assert sources.folder_digest(a) == sources.folder_digest(b)
    (b / "model.safetensors").write_bytes(b"Weights")
    assert sources.folder_digest(a) != sources.folder_digest(b)
