from __future__ import annotations

import json
import re

import numpy as np
import pytest
from helpers_languages import bank_texts
from sklearn.exceptions import NotFittedError

from fmcluster.embedding.encoders import resolve, tfidf
from fmcluster.embedding.encoders.tfidf import TfidfEncoder
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.words import Tokenizer
from fmcluster.utils.words.tokens import FIRST_PATTERN

TOPICS = ["c# linq query", "c++ template error", ".net form control", "python list sort"]


@pytest.fixture(scope="module")
def corpus():
    draw = np.random.default_rng(0)
    y = np.arange(400) % 4
    filler = [f"word{i}" for i in range(40)]
    return [f"{TOPICS[t]} {' '.join(draw.choice(filler, 3))}" for t in y], y


def test_separates_topics_in_unit_rows(corpus):
    texts, y = corpus
    encoder = resolve("tfidf", modality="text").fit(texts)
    z = encoder.encode(texts)
    assert z.shape == (400, encoder.dim)
    assert z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    same = (z @ z.T)[y[:, None] == y[None]].mean()
    other = (z @ z.T)[y[:, None] != y[None]].mean()
    assert same > 4 * other


def test_equals_scikit_learn_before_the_svd(corpus):
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, _ = corpus
    encoder = TfidfEncoder().fit(texts)
    reference = TfidfVectorizer(
        sublinear_tf=True, min_df=3, stop_words="english", token_pattern=FIRST_PATTERN
    ).fit(texts)
    ours = encoder._weigh(encoder._vectorizer.transform(texts))
    assert abs(ours - reference.transform(texts)).max() < 1e-12
    gram = (reference.transform(texts) @ reference.transform(texts).T).toarray()
    kept = encoder.encode(texts)
    assert np.corrcoef(gram.ravel(), (kept @ kept.T).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C# and .NET in C++.", ["c#", "and", ".net", "in", "c++"]),
        ("node.js, asp.net; a b", ["node.js", "asp.net"]),
        ("The end. Next", ["the", "end", "next"]),
        ("f# 3.5 été", ["f#", "3.5", "été"]),
    ],
)
def test_tokens(text, words):
    assert Tokenizer()(text) == words == re.findall(FIRST_PATTERN, text.lower())


def test_state_round_trip_without_pickle(corpus):
    texts, _ = corpus
    encoder = TfidfEncoder().fit(texts)
    arrays, meta = encoder.state()
    again = TfidfEncoder.from_state(
        {k: v.copy() for k, v in arrays.items()}, json.loads(json.dumps(meta))
    )
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))
    assert again.fingerprint == encoder.fingerprint
    assert all(a.dtype.kind == "f" for a in arrays.values())
    with pytest.raises(CorruptShardError, match="damaged"):
        TfidfEncoder.from_state({**arrays, "idf": arrays["idf"][:-1]}, meta)


def test_fit_decides_the_fingerprint(corpus):
    texts, _ = corpus
    one, two = TfidfEncoder().fit(texts), TfidfEncoder().fit(iter(texts))
    assert one.fingerprint == two.fingerprint
    assert TfidfEncoder().fit(texts[:300]).fingerprint != one.fingerprint
    assert TfidfEncoder().fingerprint["weights"] is None


def test_small_data_and_unknown_words():
    encoder = TfidfEncoder().fit(["cat sat", "dog ran", "cat ran"])
    out = encoder.encode(["cat", "zebra", ""])
    assert out.shape == (3, encoder.dim)
    assert encoder.dim <= 2
    np.testing.assert_array_equal(out[1:], 0)
    assert TfidfEncoder().fit(["word"]).encode(["word", "word"]).tolist() == [[1.0], [1.0]]


def test_errors():
    with pytest.raises(NotFittedError, match="call fit"):
        TfidfEncoder().encode(["a"])
    with pytest.raises(NotFittedError):
        TfidfEncoder().state()
    for nothing in ([], ["the", "a of"], ["", "  "]):
        with pytest.raises(ValueError, match="leave it out"):
            TfidfEncoder().fit(nothing)


def test_large_data_are_sampled_in_one_pass():
    rows = [str(i) for i in range(1000)]
    kept = tfidf._sample(iter(rows), 100, 0)
    assert len(kept) == len(set(kept)) == 100
    assert kept == tfidf._sample(iter(rows), 100, 0)
    assert abs(np.mean([int(k) for k in kept]) - 500) < 100
    assert tfidf._sample(iter(rows), 1000, 0) == rows


@pytest.mark.parametrize("language", ["de", "zh", "ar", "ja", "th"])
def test_texts_of_other_languages_are_told_apart_by_their_topics(language):
    texts, topics = bank_texts(language)
    encoder = TfidfEncoder().fit(texts)
    assert encoder.languages == (language,)
    z, y = encoder.encode(texts), np.array(topics)
    cosines, same = z @ z.T, y[:, None] == y[None]
    np.fill_diagonal(same, False)
    assert cosines[same].mean() > 2 * abs(cosines[y[:, None] != y[None]].mean())
    arrays, meta = encoder.state()
    again = TfidfEncoder.from_state(arrays, json.loads(json.dumps(meta)))
    np.testing.assert_array_equal(again.encode(texts), z)
    assert again.fingerprint == encoder.fingerprint and again.languages == (language,)


def test_stop_words_are_those_of_the_language_that_was_given():
    texts, _ = bank_texts("de")
    given = resolve({"encoder": "tfidf", "language": "de"}, modality="text")
    found = set(given.fit(texts).state()[1]["vocabulary"])
    assert not {"und", "die", "meine"} & found
    english = set(
        resolve({"encoder": "tfidf", "language": "en"}).fit(texts).state()[1]["vocabulary"]
    )
    assert {"die", "meine"} <= english
    assert given.spec["language"] == ["de"]
    assert resolve(given.spec).fingerprint == TfidfEncoder(language="de").fingerprint
    assert TfidfEncoder(language="de").fingerprint != TfidfEncoder().fingerprint
    with pytest.raises(ValueError, match="language 'german' is no ISO 639 code"):
        resolve({"encoder": "tfidf", "language": "german"})
    with pytest.raises(ValueError, match="takes no language"):
        resolve({"encoder": "packaged:minilm", "language": "de"})


def test_what_was_fitted_by_the_first_rules_encodes_as_it_did(corpus):
    """A state of 0.1 says nothing of rules: English stop words, one pattern for all scripts."""
    texts = [*corpus[0], "银行卡 还没有到", "银行卡 丢了", "银行卡 在哪里", *bank_texts("de")[0]]
    old = {"vocabulary": ["linq", "银行卡"], "min_df": 3, "random_state": 0}
    arrays = {"idf": np.array([1.0, 2.0]), "directions": np.eye(2, dtype=np.float32)}
    encoder = TfidfEncoder.from_state(arrays, old)
    np.testing.assert_array_equal(encoder.encode(["银行卡 还没有到", "linq"]), [[0, 1], [1, 0]])
    said = encoder.fingerprint["preprocessing"]
    assert said == f"lowercase;english stop words;{FIRST_PATTERN};sublinear tf-idf"
    assert said != TfidfEncoder().fit(texts).fingerprint["preprocessing"]
    again = TfidfEncoder.from_state(*encoder.state())
    assert again.fingerprint == encoder.fingerprint
    with pytest.raises(CorruptShardError, match="follows rules 9, this version knows 2: update"):
        TfidfEncoder.from_state(arrays, {**old, "rules": 9})
