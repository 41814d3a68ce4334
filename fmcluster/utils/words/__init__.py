"""Words of texts in any language: scripts, languages, stop words, stems, tokens.

Read by the names of clusters and by the ``tfidf`` space, so that both see the same words.
"""

from fmcluster.utils.words.languages import (
    check_languages,
    language_name,
    language_shares,
    main_languages,
)
from fmcluster.utils.words.stems import stem_words
from fmcluster.utils.words.stop_words import ENGLISH, clipped_words, stop_words
from fmcluster.utils.words.tokens import RULES, Tokenizer

__all__ = [
    "ENGLISH",
    "RULES",
    "Tokenizer",
    "check_languages",
    "clipped_words",
    "language_name",
    "language_shares",
    "main_languages",
    "stem_words",
    "stop_words",
]
