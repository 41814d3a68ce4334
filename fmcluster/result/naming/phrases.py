"""Terms that texts could be named by: words, pairs and triples of words, runs of characters.

Tokens that often stand side by side are found length by length: a run of n tokens is frequent only
where both its runs of n - 1 are (the a-priori rule of Agrawal and Srikant, VLDB 1994). Left out are
stop words, numbers alone, and a term that hardly ever stands without a longer one ("Apple" where
nearly always "Apple Pay").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.naming.stream import Level, Stream, levels, read_streams
from fmcluster.utils.words import ENGLISH, clipped_words, main_languages, scripts, stop_words

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# In the list of English stop words, and yet what a text can be about ("top up", "fire system").
NOT_EMPTY = frozenset(
    ("bill", "bottom", "call", "computer", "cry", "detail", "fill", "fire", "front", "full",
     "interest", "mill", "mine", "move", "name", "part", "show", "side", "sincere", "system",
     "thick", "thin", "top")
)  # fmt: skip
# Not in that list, and how people ask for anything ("what do I need to do").
ASKING = frozenset(
    ("did", "does", "doing", "done", "use", "used", "uses", "using", "want", "wants", "wanted",
     "need", "needs", "needed", "know", "like", "get", "gets", "got", "getting", "try", "trying",
     "tried", "going", "goes", "come", "comes", "came", "just", "let", "make", "makes", "making",
     "say", "says", "said", "tell", "think", "thing", "things", "way", "help", "really", "happened",
     "thanks", "thank", "hi", "hello", "sure", "able", "having", "told", "ok", "okay", "yes",
     "actually", "ago", "anyway", "believe", "bit", "couple", "fine", "guess", "maybe", "mean",
     "means", "possible", "recently", "soon", "suddenly", "supposed",
     "thought", "today", "tomorrow", "understand", "wonder", "wondering", "yesterday")
)  # fmt: skip
# Words of a term: three make "proof of identity".
LONGEST_PHRASE = 3
# Characters or syllables of a term: Chinese words have two to four, Thai compounds up to twelve.
LONGEST_RUN = 12
# Rows that a term is in: one row is a matter of chance.
LEAST_ROWS = 2
# Fewer texts than these are an example, in which every word counts.
FEW_TEXTS = 20
# A stop word that so often follows one and the same word is half of a term: "top up" is, "card for"
# is not.
PARTICLE = 0.6
# Three words with a stop word between, as "proof of identity", stand together in so many of the
# rows that hold the rarer of the two others; "fee for card" does not.
TOGETHER = 0.2
# A term is left out where one longer term is in so many of its rows.
SWALLOWED = 0.8


@dataclass(frozen=True)
class TermTable:
    """Which text holds which term.

    Attributes
    ----------
    holds : (m, t) csr matrix of float32
        1 where text i holds term j.
    terms : (t,) tuple of str
        Terms as most texts write them, in the order of the alphabet.
    parts : (t,) tuple of tuple of int
        The tokens each is made of: terms with a token in common say the same.
    languages : tuple of str
        Languages whose stop words and stems were used.
    """

    holds: Any
    terms: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]
    languages: tuple[str, ...]


def term_table(texts: Sequence[str], languages: Sequence[str] | None = None) -> TermTable:
    """Return the terms of texts.

    Parameters
    ----------
    texts : sequence of str
        One a row.
    languages : sequence of str, optional
        ISO 639-1 codes; None finds those of the texts.
    """
    from scipy.sparse import csr_matrix

    known = main_languages(texts) if languages is None else tuple(languages)
    stops = stop_words(known).union(*map(clipped_words, known))
    if ENGLISH in known:
        stops = (stops | ASKING) - NOT_EMPTY
    found: list[tuple[str, tuple[int, ...], Ints]] = []
    first = 0
    for stream in read_streams(texts, known):
        for term, part, rows in _candidates(stream, stops, len(texts)):
            found.append((term, tuple(first + token for token in part), rows))
        first += len(stream.keys)
    found.sort(key=lambda each: each[:2])
    columns = np.repeat(np.arange(len(found)), [len(rows) for *_, rows in found])
    rows = np.concatenate([np.empty(0, np.int64), *(rows for *_, rows in found)])
    ones = np.ones(len(rows), np.float32)
    holds = csr_matrix((ones, (rows, columns)), shape=(len(texts), len(found)))
    return TermTable(
        holds, tuple(term for term, *_ in found), tuple(part for _, part, _ in found), known
    )


def _candidates(
    stream: Stream, stops: frozenset[str], n_texts: int
) -> Iterable[tuple[str, tuple[int, ...], Ints]]:
    """Yield each term, its tokens and its rows."""
    least = LEAST_ROWS if n_texts >= FEW_TEXTS else 1
    found = levels(stream, LONGEST_PHRASE if stream.spaced else LONGEST_RUN, least)
    if not found:
        return
    empty = _empty(stream, stops)
    allowed = _words if stream.spaced else _runs
    good = [allowed(stream, level, found, empty, stops) for level in found]
    # Keys that begin, or end, one and the same pair: with a stop word, with any word.
    half, bound = np.zeros((2, 2, len(stream.keys)), bool)
    for shorter, longer, a, b in zip(found, found[1:], good, good[1:], strict=False):
        for side in (0, 1):
            most = np.zeros(len(shorter.parts))
            np.maximum.at(most, longer.inside[b, side], longer.n_rows[b])
            swallowed = most >= SWALLOWED * shorter.n_rows
            a &= ~swallowed
            if shorter is found[0]:
                bound[side, shorter.parts[swallowed, 0]] = True
                beside = b & empty[longer.parts[:, 1 - side]]
                most = np.zeros(len(shorter.parts))
                np.maximum.at(most, longer.inside[beside, side], longer.n_rows[beside])
                half[side, shorter.parts[most >= SWALLOWED * shorter.n_rows, 0]] = True
    for level, kept in zip(found[1:], good[1:], strict=True):
        if stream.spaced and level.parts.shape[1] > 2:  # "verify the top" goes on with "up"
            first, last = level.parts[:, 0], level.parts[:, -1]
            kept &= ~half[0, last] & ~half[1, first]
            # "Express to add" begins in the middle of "American Express".
            kept &= ~empty[level.parts[:, 1]] | ~(bound[0, last] | bound[1, first])
    for level, kept in zip(found, good, strict=True):
        written = stream.written_as(level)
        for run in np.flatnonzero(kept).tolist():
            at = level.at[level.bounds[run] : level.bounds[run + 1]]
            yield written[run], tuple(level.parts[run].tolist()), stream.rows[at]


def _empty(stream: Stream, stops: frozenset[str]) -> Bools:
    """Return which keys are stop words.

    By their occurrences: a rare form of it ("whats", "doing") makes no subject of a stop word.
    """
    there = stream.tokens[stream.tokens >= 0]
    times = np.bincount(there, minlength=len(stream.surfaces))
    empty = np.array([surface.lower() in stops for surface in stream.surfaces], bool)
    share = np.bincount(stream.key_of, times * empty, len(stream.keys))
    return share > 0.5 * np.bincount(stream.key_of, times, len(stream.keys))


def _words(
    stream: Stream, level: Level, found: Sequence[Level], empty: Bools, stops: frozenset[str]
) -> Bools:
    """Return which runs of words can be terms."""
    stop = empty[level.parts]
    letters = np.array([any(map(str.isalpha, key)) for key in stream.keys])[level.parts[:, 0]]
    ok = ~stop[:, 0] & letters & ~stop[:, -1]
    if level.parts.shape[1] == 1:
        return ok
    ok &= (level.parts[:, 1:] != level.parts[:, :-1]).all(axis=1)  # "card card" says no more
    # A pair that ends in a stop word that hardly follows another word, or a triple on such a pair.
    alone = np.zeros(len(stream.keys))
    alone[found[0].parts[:, 0]] = found[0].n_rows
    often = found[1].n_rows >= PARTICLE * np.maximum(alone[found[1].parts[:, 1]], 1)
    if level is not found[1]:
        rarer = np.minimum(alone[level.parts[:, 0]], alone[level.parts[:, -1]])
        ok &= ~stop[:, 1] | (level.n_rows >= TOGETHER * rarer)
    pair = ~empty[found[1].parts[:, 0]] & empty[found[1].parts[:, 1]] & often
    last = np.arange(len(level.parts)) if level is found[1] else level.inside[:, 1]
    return ok | (~stop[:, 0] & letters & pair[last])


def _runs(
    stream: Stream, level: Level, found: Sequence[Level], empty: Bools, stops: frozenset[str]
) -> Bools:
    """Return which runs of characters or syllables can be terms.

    Japanese writes endings and particles in hiragana, and most nouns in other characters.
    """
    if level.parts.shape[1] == 1:
        return np.zeros(len(level.parts), bool)
    stop = empty[level.parts]
    hiragana = np.array([scripts.kind(key) == "hiragana" for key in stream.keys])
    ok = ~stop[:, 0] & ~stop[:, -1] & ~hiragana[level.parts].all(axis=1)
    for run in np.flatnonzero(ok).tolist():
        ok[run] = "".join(stream.keys[key] for key in level.parts[run].tolist()) not in stops
    return ok
