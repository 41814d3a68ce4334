r"""Texts into tokens, for any script.

A word is a run of letters, digits and marks with the signs that belong to it (``c#``, ``c++``,
``.net``, ``node.js``); a letter alone is none. Where a script has no spaces a run is cut into
units, and neighboring units (pairs of ideographs, two or three syllables) stand for the words that
nobody marked: as good for search as a dictionary (Nie, Gao, Zhang and Zhou, "On the use of words
and n-grams for Chinese information retrieval", 2000). A run of katakana is a word as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from fmcluster.utils.words import scripts

# Which rules: goes up with every change of a token, and with it the fingerprint of tfidf spaces.
RULES = 2
# Of rules 1, before scripts without spaces were known; English texts have the same tokens in both.
FIRST_PATTERN = r"(?u)(?<!\w)\.?\w[\w.]*\w[+#]*|(?<!\w)\w[+#]+"


class Tokenizer:
    """Cuts a text into tokens in lower case; a callable, as scikit-learn's vectorizers take it.

    Parameters
    ----------
    stop_words : iterable of str
        Tokens that are left out.
    rules : 1 or 2
        Those of 1 cut the texts of spaces that were fitted before.

    Examples
    --------
    >>> Tokenizer(["the"])("The C++ card")
    ['c++', 'card']
    >>> Tokenizer()("银行卡")
    ['银行', '行卡']
    """

    def __init__(self, stop_words: Iterable[str] = (), *, rules: int = RULES) -> None:
        self.stop_words = frozenset(stop_words)
        self.rules = rules

    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text, in order."""
        if self.rules == 1:
            tokens = _first().findall(text.lower())
        else:
            tokens = [each for word in words(text.lower()) for each in _grams(word)]
        return [token for token in tokens if token not in self.stop_words]


def words(text: str) -> list[str]:
    """Return the words of a text in order, its case kept; runs without spaces stay whole."""
    if text.isascii():
        return _first().findall(text)
    found = _pattern().findall(scripts.clean(text))
    return [part for word in found for part in _parts(word)]


def _parts(word: str) -> list[str]:
    """Cut a word where its script changes to one without spaces; a letter alone is no word."""
    if not scripts.is_spaceless(word):
        return [word] if len(word) > 1 else []
    parts = scripts.runs(word)
    return [part.strip("._") for part in parts if scripts.is_spaceless(part) or len(part) > 1]


def _grams(word: str) -> list[str]:
    """Return the tokens of a word: itself, or overlapping pairs of units where it has no spaces."""
    if not scripts.is_spaceless(word):
        return [word]
    kind = scripts.kind(word)
    if kind == "katakana":
        return [word]
    units = scripts.units(word)
    if len(units) == 1:
        return units
    # Of letters two are half a word yet: three as well.
    sizes = (2, 3) if kind == "southeast" else (2,)
    return ["".join(units[i : i + n]) for n in sizes for i in range(len(units) - n + 1)]


@cache
def _first() -> re.Pattern[str]:
    return re.compile(FIRST_PATTERN)


@cache
def _pattern() -> re.Pattern[str]:
    letter = rf"[\w{scripts.marks()}]"
    inside = rf"[\w.{scripts.marks()}]"
    alone = f"[{scripts.SPACELESS}]"
    return re.compile(
        rf"(?<!\w)\.?{letter}{inside}*{letter}[+#]*|(?<!\w)\w[+#]+|(?<!\w){alone}(?!\w)"
    )
