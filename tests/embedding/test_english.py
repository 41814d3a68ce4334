"""Who embeds texts of other languages with an encoder of English is told."""

import logging

import numpy as np
import pytest
from helpers_languages import bank_texts

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.embedding.english import foreign_shares, is_english_only, mismatch


class Named:
    """An encoder that goes by a name."""

    modality = "text"
    fingerprint = {"encoder": "named", "weights": "1"}
    dim = 4

    def __init__(self, name):
        self.spec = {"encoder": name, "modality": "text"}

    def encode(self, rows):
        return np.ones((len(rows), 4), np.float32)


@pytest.mark.parametrize(
    ("name", "english"),
    [
        ("packaged:minilm", True),
        ("packaged:wordllama@128", True),
        ("sentence-transformers/all-MiniLM-L6-v2", True),
        ("BAAI/bge-base-en-v1.5", True),
        ("intfloat/e5-base-v2", True),
        ("/models/all-mpnet-base-v2/", True),
        ("intfloat/multilingual-e5-base", False),
        ("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", False),
        ("minishlab/potion-multilingual-128M", False),
        ("BAAI/bge-m3", False),
        ("tfidf", False),
    ],
)
def test_encoders_of_english_are_known_by_name(name, english):
    assert is_english_only(name) is english


@pytest.mark.parametrize("language", ["de", "zh", "ar", "ja", "th"])
def test_texts_that_are_mostly_not_english_are_told(language):
    texts = bank_texts(language)[0]
    assert language in foreign_shares(texts)
    assert foreign_shares([*texts, *bank_texts("en")[0] * 3]) is None
    assert foreign_shares(bank_texts("en")[0]) is None
    line = mismatch(texts, ["packaged:minilm", "tfidf"])
    assert line.startswith("the texts are mostly not English (100 % ")
    assert "packaged:minilm learnt English alone" in line and "multilingual-e5-base" in line
    assert mismatch(texts, ["intfloat/multilingual-e5-base"]) is None


def test_nothing_is_said_of_codes_and_of_nothing():
    assert foreign_shares([]) is None and foreign_shares(["x86 A4 B2"] * 50) is None


def test_embed_warns_once_and_embeds_all_the_same(tmp_path, caplog):
    texts = bank_texts("de")[0]
    with caplog.at_level(logging.WARNING):
        store = fmc.embed(texts, encoder=Named("packaged:minilm"), folder=tmp_path / "s")
    assert len(store.ids) == len(texts)
    assert [r.message for r in caplog.records if "mostly not English" in r.message][1:] == []
    assert "100 % German" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        fmc.embed(bank_texts("en")[0], encoder=Named("packaged:minilm"), folder=tmp_path / "e")
        fmc.embed(texts, encoder=Named("my-own"), folder=tmp_path / "o")
    assert "English" not in caplog.text


def test_doctor_says_the_languages_of_data(tmp_path, capsys):
    path = tmp_path / "t.txt"
    path.write_text("\n".join(bank_texts("ar")[0]) + "\n", encoding="utf8")
    assert main(["doctor", str(path), "--encoder", "packaged:minilm"]) == 0
    said = capsys.readouterr().out
    assert "languages of 24 texts: Arabic 100 %" in said
    assert "PROBLEM: the texts are mostly not English (100 % Arabic)" in said
    assert main(["doctor", str(path), "--encoder", "intfloat/multilingual-e5-base"]) == 0
    assert "mostly not English" not in capsys.readouterr().out
    assert main(["doctor", "--column", "text"]) == 2
    assert "none was given" in capsys.readouterr().err
