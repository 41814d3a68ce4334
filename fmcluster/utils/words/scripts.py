"""Which script a text is in, and its characters brought to one form.

Scripts that write no spaces between words (Chinese, Japanese, Thai and its kin) are cut into
*units*: one ideograph, one kana, or one consonant with the marks that stand on it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

# Unicode blocks, as ranges of a regular expression's class.
HAN = "\u3005\u3006\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
HIRAGANA = "\u3041-\u3096\u309d-\u309f"
KATAKANA = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
# Thai, Lao, Myanmar and Khmer: letters and marks, neither digits nor signs.
SOUTHEAST = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ecd\u0edc-\u0edf"
    "\u1000-\u103f\u1050-\u109d\u1780-\u17d3\u17dd"
)
SPACELESS = HAN + HIRAGANA + KATAKANA + SOUTHEAST
# One script a row: what texts in it are taken for where nothing says more.
SCRIPTS: tuple[tuple[str, str], ...] = (
    ("latin", "A-Za-z\u00c0-\u024f\u1e00-\u1eff"),
    ("cyrillic", "\u0400-\u052f"),
    ("greek", "\u0370-\u03ff\u1f00-\u1fff"),
    ("arabic", "\u0620-\u064a\u066e-\u06d3\u0750-\u077f\u08a0-\u08c9"),
    ("hebrew", "\u05d0-\u05ea"),
    ("devanagari", "\u0900-\u0963\u0971-\u097f"),
    ("bengali", "\u0980-\u09fe"),
    ("gujarati", "\u0a80-\u0aff"),
    ("armenian", "\u0530-\u058f"),
    ("hangul", "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"),
    ("kana", HIRAGANA + KATAKANA),
    ("han", HAN),
    ("thai", "\u0e01-\u0e3a\u0e40-\u0e4e"),
)

# Vowel signs and points that readers of Arabic and Hebrew supply, the stretch of a line, and the
# marks that only say which way a line runs: with them one word would be several.
_SILENT = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
# Full-width letters, half-width kana and Arabic as printers' shapes stand for common characters.
_SHAPES = re.compile("[\ufb50-\ufdff\ufe70-\ufefc\uff01-\uffee]+")
_RUNS = re.compile(f"[{HAN}]+|[{HIRAGANA}]+|[{KATAKANA}]+|[{SOUTHEAST}]+|[^{SPACELESS}]+")
_SPACELESS = re.compile(f"[{SPACELESS}]")
# A vowel that is written before its consonant, the consonant, the marks on it, a vowel after it.
_SYLLABLE = re.compile(
    "[\u0e40-\u0e44\u0ec0-\u0ec4]?[^\u0e30-\u0e3a\u0e40-\u0e4e\u0eb0-\u0ebc\u0ec0-\u0ecd\u102b-\u103e"
    "\u17b4-\u17d3](?:[\u1039\u17d2].)?"
    "[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u1038\u103a-\u103e"
    "\u17b4-\u17d1\u17d3]*[\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3]?[\u0e48-\u0e4e]*|."
)


def clean(text: str) -> str:
    """Return a text whose characters have one form each: composed, without silent marks."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    text = _SHAPES.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    return _SILENT.sub("", text)


def is_spaceless(word: str) -> bool:
    """Return whether a word holds a character of a script without spaces."""
    return not word.isascii() and _SPACELESS.search(word) is not None


def runs(word: str) -> list[str]:
    """Cut a word where its script changes to or from one without spaces."""
    return _RUNS.findall(word)


def kind(run: str) -> str:
    """Return "han", "hiragana", "katakana", "southeast" or "word" of a run."""
    first = run[0]
    for name, characters in _kinds():
        if characters.match(first):
            return name
    return "word"


def units(run: str) -> list[str]:
    """Cut a run of a script without spaces into characters, or syllables of marks and letters."""
    return _SYLLABLE.findall(run) if kind(run) == "southeast" else list(run)


def script_of(text: str) -> str | None:
    """Return the script of most letters of a text, None where it has none that is known.

    Japanese is told from Chinese by its kana: a text of which a tenth is kana is "kana".
    """
    counts = Counter(
        {name: n for name, pattern in _patterns() if (n := len(pattern.findall(text)))}
    )
    if not counts:
        return None
    # Japanese is of kana for a third and more; a tenth leaves out Chinese that quotes a name.
    if 10 * counts["kana"] >= counts["han"] + counts["kana"] > 0:
        counts["kana"] += counts.pop("han", 0)
    return counts.most_common(1)[0][0]


@cache
def marks() -> str:
    r"""Return the combining marks of all scripts, as ranges of a regular expression's class.

    To Python's ``\w`` the vowel signs of Hindi, Thai and many others are no part of a word.
    """
    # Marks beyond the first plane are of scripts that nothing here knows.
    found = [c for c in range(0x300, 0xFFFF) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    return "".join(f"{chr(a)}-{chr(b)}" if b > a else chr(a) for a, b in _ranges(found))


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Join numbers that follow each other into ranges."""
    out: list[tuple[int, int]] = []
    for number in numbers:
        if out and number == out[-1][1] + 1:
            out[-1] = (out[-1][0], number)
        else:
            out.append((number, number))
    return out


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((name, re.compile(f"[{characters}]")) for name, characters in SCRIPTS)


@cache
def _kinds() -> tuple[tuple[str, re.Pattern[str]], ...]:
    known = (
        ("han", HAN),
        ("hiragana", HIRAGANA),
        ("katakana", KATAKANA),
        ("southeast", SOUTHEAST),
    )
    return tuple((name, re.compile(f"[{characters}]")) for name, characters in known)
