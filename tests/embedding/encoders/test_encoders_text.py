from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.base import Run
from fmcluster.embedding.encoders.text import TextEncoder
from fmcluster.embedding.encoders.texts.sentence import SentenceEncoder
from fmcluster.utils.errors import MissingExtraError


@pytest.mark.parametrize(("pooling", "normalise"), [("mean", True), ("mean", False), ("cls", True)])
def test_equals_sentence_transformers(
    sentence_transformer,
    pooling,
    normalise,
    sentence_folder,
    texts,
    cosine,
    same_whatever_the_batching,
):
    folder = sentence_folder(pooling, normalise=normalise)
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(folder, batch_size=batch_size, precision="fp32"), texts
    )
    theirs = sentence_transformer(str(folder), device="cpu").encode(texts)
    assert cosine(ours, theirs) >= 0.9999
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    encoder = resolve(folder, modality="text")
    assert isinstance(encoder, TextEncoder)
    assert encoder.fingerprint["pooling"] == pooling
    assert encoder.fingerprint["truncation"] == 16
    assert encoder.fingerprint["normalisation"] == ("l2" if normalise else "none")
    assert encoder.dim == 32


@pytest.mark.parametrize("extra", [{"dense": True}, {}])
def test_other_modules_run_in_their_own_library(
    sentence_transformer, extra, sentence_folder, texts, cosine, same_whatever_the_batching
):
    folder = sentence_folder("mean" if extra else "max", **extra)
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(folder, batch_size=batch_size), texts
    )
    assert cosine(ours, sentence_transformer(str(folder), device="cpu").encode(texts)) >= 0.9999
    encoder = resolve(folder)
    assert isinstance(encoder, SentenceEncoder)
    assert ("Dense" in encoder.fingerprint["pooling"]) is bool(extra)
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


def test_a_default_prompt_is_kept(sentence_transformer, sentence_folder, texts, cosine):
    folder = sentence_folder("mean")
    file = folder / "config_sentence_transformers.json"
    head = json.loads(file.read_text())
    head |= {"prompts": {"cluster": "list of: "}, "default_prompt_name": "cluster"}
    file.write_text(json.dumps(head))
    encoder = resolve(folder)
    assert "list of: " in encoder.fingerprint["preprocessing"]
    theirs = sentence_transformer(str(folder), device="cpu").encode(texts)
    assert cosine(encoder.encode(texts), theirs) >= 0.9999


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_plain_transformers_folder(pooling, bert_folder, texts, cosine, same_whatever_the_batching):
    import torch
    from transformers import AutoModel, AutoTokenizer

    ours = same_whatever_the_batching(
        lambda batch_size: TextEncoder(
            bert_folder, pooling=pooling, run=Run(batch_size=batch_size)
        ),
        texts,
    )
    tokens = AutoTokenizer.from_pretrained(bert_folder)(
        texts, padding=True, truncation=True, max_length=24, return_tensors="pt"
    )
    with torch.no_grad():
        states = AutoModel.from_pretrained(bert_folder).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(1) / mask.sum(1)
    assert cosine(ours, (mean if pooling == "mean" else states[:, 0]).numpy()) >= 0.9999
    encoder = TextEncoder(bert_folder, pooling=pooling)
    again = resolve(json.loads(json.dumps(encoder.spec)))
    assert again.fingerprint == encoder.fingerprint
    assert encoder.fingerprint["truncation"] == 24


def test_pooling_precision_and_truncation_change_the_fingerprint(bert_folder):
    made = [
        TextEncoder(bert_folder, run=Run(precision="fp32")),
        TextEncoder(bert_folder, run=Run(precision="bf16")),
        TextEncoder(bert_folder, pooling="cls"),
        TextEncoder(bert_folder, max_length=8),
        TextEncoder(bert_folder, normalise=True),
    ]
    assert len({json.dumps(e.fingerprint, sort_keys=True) for e in made}) == 5
    assert TextEncoder(bert_folder, run=Run(batch_size=3)).fingerprint == made[0].fingerprint


def test_long_empty_and_unknown_texts(bert_folder, cosine):
    encoder = resolve(bert_folder)
    long = "cat dog " * 200
    out = encoder.encode(["", "zzz qqq", long, long + "mat", "cat"])
    assert np.isfinite(out).all()
    assert cosine(out[2:3], out[3:4]) >= 0.9999, "both are cut at the same token"
    assert encoder.encode([]).shape == (0, 32)


def test_images_given_to_a_text_encoder(bert_folder, images):
    with pytest.raises(TypeError, match="row 1 is Image"):
        resolve(bert_folder).encode(["a", images[0]])
    with pytest.raises(ValueError, match="takes texts, the data are images"):
        resolve(bert_folder, modality="image")


def test_missing_library_names_the_extra(sentence_folder, monkeypatch):
    folder = sentence_folder("max")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"fmcluster\[text\]"):
        resolve(folder)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_texts_beyond_the_limit_are_counted_and_said_once(
    pooling, sentence_folder, texts, tmp_path, caplog
):
    from fmcluster.embedding.embed import embed_to_store
    from fmcluster.embedding.store.store import EmbeddingStore

    word = max(texts, key=len).split()[0]
    rows = ["short", " ".join([word] * 40), "also short", " ".join([word] * 50)]
    encoder = resolve(sentence_folder(pooling), precision="fp32")
    store = embed_to_store(rows, encoder, folder=tmp_path / "s", shard_rows=2)
    (name,) = store.spaces
    assert store.truncated == {name: 2}
    assert EmbeddingStore.open(tmp_path / "s").truncated == {name: 2}
    assert caplog.text.count("2 of 4 texts are longer than the 16 tokens") == 1
    short = embed_to_store(["short"], encoder, folder=tmp_path / "t")
    assert short.truncated == {}


def test_code_of_a_model_folder_is_never_run(bert_folder, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "evil"
    shutil.copytree(bert_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    resolve(folder, modality="text")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "builtins.exec"}, "'builtins.exec'"),
        ({"type": "sentence_transformers_evil.Pooling"}, "sentence_transformers_evil"),
        ({"path": "../elsewhere"}, "elsewhere"),
    ],
)
def test_modules_of_other_packages_are_never_imported(change, message, sentence_folder, tmp_path):
    import shutil

    folder = tmp_path / "evil"
    shutil.copytree(sentence_folder("max"), folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1].update(change)
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=message):
        resolve(folder, modality="text")


def test_an_activation_is_one_of_torch(sentence_folder, tmp_path):
    import shutil

    folder = tmp_path / "evil"
    shutil.copytree(sentence_folder("max"), folder)
    (folder / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 8, "activation_function": "os.system"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    with pytest.raises(ValueError, match=r"os\.system"):
        resolve(folder, modality="text")
