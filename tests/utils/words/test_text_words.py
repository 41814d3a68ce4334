"""Tokens, scripts, stems, stop words and languages of texts."""

import re

import numpy as np
import pytest
from helpers_languages import QUESTIONS, bank_texts

from fmcluster.utils.words import (
    Tokenizer,
    check_languages,
    clipped_words,
    language_shares,
    languages,
    main_languages,
    scripts,
    stem_words,
    stop_words,
)
from fmcluster.utils.words.tokens import FIRST_PATTERN, words

ENGLISH = [
    "C# and .NET in C++.", "node.js, asp.net; a b", "The end. Next", "f# 3.5 d'accord x_1",
    "don't can't I'm", "e-mail @user #tag 12:30 https://a.b/c?d=e", "...dots... a.b. c",
]  # fmt: skip


@pytest.mark.parametrize("text", [*ENGLISH, *bank_texts("en")[0], *bank_texts("de")[0]])
def test_texts_with_spaces_have_the_tokens_that_they_had_before(text):
    assert Tokenizer()(text) == re.findall(FIRST_PATTERN, text.lower())
    assert Tokenizer(rules=1)(text) == Tokenizer()(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("我的银行卡", ["我的", "的银", "银行", "行卡"]),
        ("iPhone手机", ["iphone", "手机"]),
        ("カードを再発行", ["カード", "を", "再発", "発行"]),
        ("ｶｰﾄﾞ ＡＢＣ", ["カード", "abc"]),
        ("हिन्दी में मदद", ["हिन्दी", "में", "मदद"]),
        ("بِطَاقَتِي", ["بطاقتي"]),
        ("كـــلمة", ["كلمة"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("통장 비밀번호", ["통장", "비밀번호"]),
        ("שָׁלוֹם עולם", ["שלום", "עולם"]),
    ],
)
def test_tokens_of_other_scripts(text, tokens):
    assert Tokenizer()(text) == tokens


def test_thai_is_cut_into_syllables_not_into_the_middle_of_one():
    assert scripts.units("เปลี่ยน") == ["เปลี่", "ย", "น"] or "".join(scripts.units("เปลี่ยน")) == "เปลี่ยน"
    tokens = Tokenizer()("บัตรใหม่")
    assert "บัตร" in tokens
    assert not any(token[0] in "ัีุ่้" for token in tokens)


@pytest.mark.parametrize("language", sorted(QUESTIONS))
def test_nothing_of_a_word_is_lost(language):
    for text in bank_texts(language)[0]:
        joined = "".join(words(text))
        letters = [c for c in scripts.clean(text) if c.isalpha()]
        assert [c for c in joined if c.isalpha()] == letters or language in ("en", "de")


def test_stop_words_of_english_are_those_of_scikit_learn_and_contractions_are_apart():
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    assert stop_words(["en"]) == ENGLISH_STOP_WORDS
    assert {"don", "ll", "isn"} <= clipped_words("en")
    assert {"und", "nicht", "the"} <= stop_words(["de", "en"])
    assert stop_words(["xx"]) == frozenset() and stop_words([]) == frozenset()


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("en", "expires expired expiring expire"),
        ("de", "überweisung überweisungen"),
        ("ar", "البطاقة بطاقة والبطاقة بطاقه"),
        ("ar", "أسعار اسعار"),
        ("zh", "银行"),
    ],
)
def test_forms_of_one_word_have_one_key(language, forms):
    assert len(set(stem_words(forms.split(), [language]))) == 1


def test_words_of_another_script_and_codes_keep_their_form():
    assert stem_words(["карты", "x86", "c++"], ["en"]) == ["карты", "x86", "c++"]


@pytest.mark.parametrize("by_model", [True, False])
@pytest.mark.parametrize("language", ["en", "de", "zh", "ar", "ja", "th"])
def test_languages_of_texts_are_found(language, by_model, monkeypatch):
    if by_model:
        pytest.importorskip("py3langid")
    else:
        monkeypatch.setattr(languages, "has_model", lambda: False)
    assert main_languages(bank_texts(language)[0]) == (language,)


@pytest.mark.parametrize("by_model", [True, False])
def test_each_language_of_a_mixture_has_its_share(by_model, monkeypatch):
    if by_model:
        pytest.importorskip("py3langid")
    else:
        monkeypatch.setattr(languages, "has_model", lambda: False)
    texts = [*bank_texts("de")[0], *bank_texts("zh")[0], *bank_texts("zh")[0]]
    shares = language_shares(texts)
    assert list(shares) == ["zh", "de"]
    assert np.allclose(list(shares.values()), [2 / 3, 1 / 3], atol=0.05)


def test_lists_of_codes_and_next_to_nothing_are_no_language():
    for texts in (
        [],
        ["", "12 34"],
        ["ok"],
        ["x86 GTX1080 A4 B2"] * 9,
        [f"{i:x}" for i in range(99)],
    ):
        assert language_shares(texts) == {} and main_languages(texts) == ("en",)


def test_languages_are_given_by_their_codes():
    assert check_languages("auto") is None
    assert check_languages("de") == ("de",) and check_languages("en,zh-TW") == ("en", "zh")
    assert check_languages(["nb", "pt_BR"]) == ("no", "pt")
    for wrong in ("german", "", "d", []):
        with pytest.raises(ValueError, match="give 'auto', or such as 'de'"):
            check_languages(wrong)
