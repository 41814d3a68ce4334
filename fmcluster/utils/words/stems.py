"""Inflected forms of one word under one key: "expires" and "expired" are "expir".

Snowball's stemmers for the languages that it has, with letters that writers exchange made one; for
Arabic the light stemmer of Larkey, Ballesteros and Connell ("Light Stemming for Arabic Information
Retrieval", 2007), as Snowball's cuts letters of the root. Other languages keep their words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fmcluster.utils.words.scripts import script_of

SNOWBALL = {
    "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "es": "spanish", "et": "estonian", "eu": "basque", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
}  # fmt: skip
_ALEF = re.compile("[أإآٱ]")
_ARTICLES = ("وال", "بال", "كال", "فال", "ال", "لل")
_ENDINGS = ("ها", "ان", "ات", "ون", "ين", "يه", "ية", "ه", "ة", "ي")


def stem_words(words: Sequence[str], languages: Sequence[str]) -> list[str]:
    """Return the key of each word (lower case), the same for forms of one word.

    Parameters
    ----------
    words : sequence of str
        In lower case.
    languages : sequence of str
        Of the texts, most frequent first: a word goes through the first of them whose script it is
        in and whose forms are known.
    """
    import snowballstemmer

    makers = {
        code: snowballstemmer.stemmer(SNOWBALL[code]) for code in languages if code in SNOWBALL
    }
    scripts = {code: _script(code) for code in makers}
    out = []
    for word in words:
        script = "latin" if word.isascii() else script_of(word)
        if script == "arabic":
            out.append(light_arabic(word) if "ar" in languages else word)
            continue
        maker = next((m for code, m in makers.items() if scripts[code] == script), None)
        # Codes and numbers have no forms.
        out.append(maker.stemWord(word) if maker is not None and word.isalpha() else word)
    return out


def light_arabic(word: str) -> str:
    """Return an Arabic word without article, endings, and hamza on its alefs."""
    word = _ALEF.sub("ا", word).replace("ى", "ي")
    # Three letters are left, as a root has; of shorter words it is a part.
    if word.startswith("و") and len(word) > 3:
        word = word[1:]
    for article in _ARTICLES:
        if word.startswith(article) and len(word) - len(article) >= 2:
            word = word[len(article) :]
            break
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            word = word[: -len(ending)]
    return word


def _script(code: str) -> str:
    """Return the script that a language with a stemmer is written in."""
    return {
        "el": "greek", "hi": "devanagari", "ne": "devanagari", "hy": "armenian",
        "ru": "cyrillic", "sr": "cyrillic", "ta": "tamil",
    }.get(code, "latin")  # fmt: skip
