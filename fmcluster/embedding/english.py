"""Encoders that learnt English alone, and a word to those who give them something else.

They embed texts of other languages without complaint, by whatever pieces of words they know: the
clusters are then of spelling.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fmcluster.utils.words import language_name, language_shares, stop_words
from fmcluster.utils.words.tokens import words

logger = logging.getLogger(__name__)

# Last parts of names, as their authors describe them; of others nothing is said.
_ENGLISH_ONLY = re.compile(
    r"minilm|wordllama(@\d+)?|all-(minilm|mpnet|distilroberta|roberta).*|multi-qa-.*|msmarco-.*"
    r"|bge-(small|base|large)-en.*|e5-(small|base|large)(-v2)?|gte-(small|base|large)(-en.*)?"
    r"|potion-(?!multilingual).*|nomic-embed-text-v1.*|mxbai-embed-large.*",
    re.IGNORECASE,
)
# Texts that are looked at, in pieces from all over the data: enough for what is most of them.
SAMPLE_ROWS, PIECES = 200, 8
# No further than this: files without an index are read up to the last piece.
FURTHEST = 50_000
# Words that are English stop words, where texts are English: two in five, in headlines one in ten.
# Of so many nobody has to look closer, which takes half a second.
PLAINLY_ENGLISH = 0.15
# "Mostly not English": under this share.
MOSTLY = 0.5


def is_english_only(encoder: Any) -> bool:
    """Return whether an encoder (its name, or itself) is known to have learnt English alone."""
    name = encoder if isinstance(encoder, str) else getattr(encoder, "spec", {}).get("encoder")
    last = re.split(r"[/\\:]", str(name or "").rstrip("/\\"))[-1]
    return _ENGLISH_ONLY.fullmatch(last) is not None


def foreign_shares(texts: Sequence[str]) -> dict[str, float] | None:
    """Return the shares of languages where texts are mostly not English, else None.

    None also where no language is told.
    """
    tokens = [word for text in texts for word in words(text.lower())]
    known = stop_words(["en"])
    if sum(token in known for token in tokens) >= PLAINLY_ENGLISH * max(len(tokens), 1):
        return None
    shares = language_shares(texts)
    told = sum(shares.values())
    return shares if told > MOSTLY and shares.get("en", 0.0) < MOSTLY * told else None


def mismatch(texts: Sequence[str], encoders: Iterable[Any]) -> str | None:
    """Return one line where an English-only encoder meets texts that mostly are not, else None.

    Parameters
    ----------
    texts : sequence of str
        A sample.
    encoders : iterable of Encoder or str
        What embeds them.
    """
    found = [each for each in encoders if is_english_only(each)]
    named = [each if isinstance(each, str) else str(each.spec["encoder"]) for each in found]
    shares = foreign_shares(texts) if named else None
    if not shares:
        return None
    most = ", ".join(f"{100 * p:.0f} % {language_name(c)}" for c, p in [*shares.items()][:3])
    return (
        f"the texts are mostly not English ({most}), and {', '.join(named)} learnt English alone: "
        "take an encoder of many languages, such as 'intfloat/multilingual-e5-base' with "
        "prompt='query: '"
    )


def sample_texts(source: Any) -> list[str]:
    """Return some texts of a source, from all over it; none of a stream, which is read once."""
    if source.modality != "text" or source.is_stream or not source.n_rows:
        return []
    size = max(1, min(SAMPLE_ROWS // PIECES, source.n_rows))
    last = -(-min(source.n_rows, FURTHEST) // size) - 1
    numbers = np.unique(np.linspace(0, last, PIECES).astype(int)).tolist()
    rows = itertools.chain.from_iterable(raw for _, raw in source.pieces(size, numbers))
    return [row for row in rows if isinstance(row, str)]


def say_mismatch(source: Any, encoders: Sequence[Any]) -> None:
    """Warn where an English-only encoder is about to embed texts that mostly are not English."""
    if any(is_english_only(encoder) for encoder in encoders):
        line = mismatch(sample_texts(source), encoders)
        if line:
            logger.warning(line)
