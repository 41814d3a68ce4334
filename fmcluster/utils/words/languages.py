r"""Which languages texts are in: shares of all rows, not a guess a row.

Short texts alone are often taken for a neighbor of their language. With :math:`p_i(l)` what a row
alone says of language l, the shares :math:`\pi` of the whole are found by expectation
maximization,

.. math:: r_i(l) \propto \pi_l \, p_i(l), \qquad \pi_l = \tfrac1n \sum_i r_i(l),

so that rows in doubt follow the others. :math:`p_i(l)` comes from py3langid (extra ``languages``:
Lui and Baldwin, "langid.py", ACL 2012). Without it, from the row's script and from stop words:
a word is one of a language's :math:`|S_l|` stop words with chance 0.4, else any other one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.words import scripts
from fmcluster.utils.words.stop_words import ENGLISH, listed_languages, stop_words
from fmcluster.utils.words.tokens import Tokenizer

# Texts that are looked at, evenly spaced, and characters of each: shares to a percent or two.
SAMPLE_ROWS = 1_000
SAMPLE_CHARACTERS = 300
# A language of fewer rows brings no stop words: names, quotes and misreadings make as much.
LEAST_SHARE = 0.05
# Letters in all that say which language it is; of fewer, English is meant.
LEAST_LETTERS = 40
# Shares move no more after so many rounds.
ROUNDS = 30
# What rows of a language say of it on the mean, by themselves. On messages of Django in 90
# languages it is 0.47 and more (by words 0.26), on lists of names and toy words 0.36 and less.
LEAST_SURE, LEAST_SURE_BY_WORDS = 0.37, 0.25
# About two words in five are function words, in any language with words for them.
STOP_SHARE = 0.4
# Other words that a text might use: what one of them says is next to nothing.
OTHER_WORDS = 20_000
# What py3langid tells apart and word lists do not: written alike, or one within the other.
SAME = {
    "nb": "no", "nn": "no", "yue": "zh", "wuu": "zh", "arz": "ar", "ary": "ar", "apc": "ar",
    "ars": "ar", "hbo": "he", "pcm": "en", "srl": "sr", "bs": "hr", "pes": "fa", "prs": "fa",
    "fil": "tl",
}  # fmt: skip
BY_SCRIPT = {
    "greek": ("el",), "hebrew": ("he",), "hangul": ("ko",), "kana": ("ja",), "han": ("zh",),
    "thai": ("th",), "bengali": ("bn",), "gujarati": ("gu",), "armenian": ("hy",),
    "cyrillic": ("ru", "uk", "bg"), "arabic": ("ar", "fa", "ur"), "devanagari": ("hi", "mr"),
}  # fmt: skip
NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish",
    "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def language_shares(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of the texts in each language, largest first.

    Parameters
    ----------
    texts : sequence of str
        At most 1,000 of them are looked at.

    Returns
    -------
    dict
        ISO 639 code to share. Languages under 1 % are left out, and what no language is sure of:
        lists of codes or names. Empty where nothing is told.
    """
    step = max(1, -(-len(texts) // SAMPLE_ROWS))
    some = [scripts.clean(text[:SAMPLE_CHARACTERS]) for text in texts[::step]]
    some = [text for text in some if any(map(str.isalpha, text))]
    if sum(map(str.isalpha, "".join(some))) < LEAST_LETTERS:
        return {}
    codes, each = _by_model(some) if has_model() else _by_words(some)
    each /= np.maximum(each.sum(axis=1, keepdims=True), 1e-300)
    shares = np.full(len(codes), 1 / len(codes))
    for _ in range(ROUNDS):
        posterior = each * shares
        posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
        shares = posterior.mean(axis=0)
    # A language that its own rows are not sure of is there for want of a better one.
    sure = (posterior * each).sum(axis=0) / np.maximum(posterior.sum(axis=0), 1e-300)
    least = LEAST_SURE if has_model() else LEAST_SURE_BY_WORDS
    told = {c: s for c, s, p in zip(codes, shares.tolist(), sure, strict=True) if p >= least}
    ordered = sorted(told.items(), key=lambda pair: (-pair[1], pair[0]))
    # Of fewer than one row in a hundred a language is a foreign word or a name.
    return {code: share for code, share in ordered if share >= 0.01}


def main_languages(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the languages of at least a twentieth of the texts; English where none is told."""
    found = tuple(c for c, share in language_shares(texts).items() if share >= LEAST_SHARE)
    return found or (ENGLISH,)


def check_languages(language: str | Sequence[str]) -> tuple[str, ...] | None:
    """Return the languages that were asked for ("de", "en,zh" or a list); None for "auto".

    Raises
    ------
    ValueError
        No ISO 639 code.
    """
    given = language.split(",") if isinstance(language, str) else list(language)
    if given == ["auto"]:
        return None
    codes = [str(each).strip().lower().replace("_", "-").partition("-")[0] for each in given]
    for code, each in zip(codes, given, strict=True):
        if not (code.isascii() and code.isalpha() and 2 <= len(code) <= 3):
            raise ValueError(
                f"language {each!r} is no ISO 639 code: give 'auto', or such as 'de' or 'zh'"
            )
    if not codes:
        raise ValueError("language is empty: give 'auto', or such as 'de' or 'zh'")
    return tuple(SAME.get(code, code) for code in codes)


def language_name(code: str) -> str:
    """Return the English name of a language, or its code."""
    return NAMES.get(code, code)


def has_model() -> bool:
    """Return whether py3langid is there."""
    return importlib.util.find_spec("py3langid") is not None


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    # One of our own: the package's shared one may have been narrowed by someone else.
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _by_model(texts: list[str]) -> tuple[list[str], NDArray[np.float64]]:
    model = _model()
    codes = list(dict.fromkeys(SAME.get(code, code) for code in model.labels))
    place = {code: number for number, code in enumerate(codes)}
    each = np.zeros((len(texts), len(codes)))
    for row, text in enumerate(texts):
        for code, p in model.rank(text):
            each[row, place[SAME.get(code, code)]] += p
    return codes, each


def _by_words(texts: list[str]) -> tuple[list[str], NDArray[np.float64]]:
    codes = sorted(listed_languages())
    lists = [stop_words([code]) for code in codes]
    only = {code: name for name, several in BY_SCRIPT.items() for code in several}
    written = [only.get(code, "latin") for code in codes]
    words = Tokenizer()
    logs = np.full((len(texts), len(codes)), -np.inf)
    for row, text in enumerate(texts):
        script = scripts.script_of(text)
        tokens = words(text)
        for column, known in enumerate(lists):
            if written[column] != script:
                continue
            hits = sum(token in known for token in tokens)
            logs[row, column] = hits * np.log(STOP_SHARE / max(len(known), 1)) + (
                len(tokens) - hits
            ) * np.log((1 - STOP_SHARE) / OTHER_WORDS)
    told = np.isfinite(logs).any(axis=1)
    logs = logs[told] - logs[told].max(axis=1, keepdims=True)
    return codes, np.exp(logs)
