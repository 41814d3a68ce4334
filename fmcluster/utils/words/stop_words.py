"""Words that say nothing of a text's subject, by language.

English is scikit-learn's list, which the ``tfidf`` space was measured with; other languages are
those of stopwords-iso (58 of them).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from fmcluster.utils.words.scripts import clean
from fmcluster.utils.words.tokens import words

ENGLISH = "en"


def stop_words(languages: Iterable[str]) -> frozenset[str]:
    """Return the stop words of all `languages` together, in lower case.

    Parameters
    ----------
    languages : iterable of str
        ISO 639-1 codes; one without a list adds nothing.
    """
    return frozenset[str]().union(*(_of(language) for language in languages))


@cache
def listed_languages() -> frozenset[str]:
    """Return the languages that there is a list for."""
    import stopwordsiso

    return frozenset(stopwordsiso.langs())


@cache
def _of(language: str) -> frozenset[str]:
    if language == ENGLISH:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    if language not in listed_languages():
        return frozenset()
    return frozenset(_listed(language)) | clipped_words(language)


@cache
def clipped_words(language: str) -> frozenset[str]:
    """Return what a tokenizer leaves of a language's contractions: "don" and "ll", "qu"."""
    if language not in listed_languages():
        return frozenset()
    marked = [word for word in _listed(language) if "'" in word]
    return frozenset(part for word in marked for part in words(word))


def _listed(language: str) -> list[str]:
    import stopwordsiso

    known = sorted(stopwordsiso.stopwords(language))
    return [clean(word.lower()).replace("\u2019", "'") for word in known]
