"""All texts as one stream of tokens, and the runs of tokens that are frequent in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.words import scripts, stem_words
from fmcluster.utils.words.tokens import words

Ints = NDArray[np.int64]

# Where a phrase ends: a sign before a space or the end, brackets, quotes, signs of other scripts.
BREAKS = re.compile(
    r"[.!?,;:…]+(?=\s|$)|[()\[\]{}\"“”«»„|/<>\n\t。！？、，；：「」『』（）《》؟،؛।]+|\s[-–—]+\s"
)
# What a form counts where it begins a phrase, and may have a capital for that alone.
INITIAL = 0.01


@dataclass(frozen=True)
class Stream:
    """Tokens of all texts one after the other.

    Attributes
    ----------
    surfaces : tuple of str
        Tokens as written.
    tokens : (n,) int64
        Which of them stands where; -1 where a phrase ends.
    rows : (n,) int64
        In which text.
    initial : (n,) bool
        Whether it begins a phrase.
    spaced : bool
        Words, or else characters and syllables of scripts without spaces.
    keys : tuple of str
        What the forms of one word have in common.
    key_of : (v,) int64
        The key of each surface.
    """

    surfaces: tuple[str, ...]
    tokens: Ints
    rows: Ints
    initial: NDArray[np.bool_]
    spaced: bool
    keys: tuple[str, ...]
    key_of: Ints

    def written_as(self, level: Level) -> list[str]:
        """Return each run of a level as most texts write it."""
        length = level.parts.shape[1]
        forms = self.tokens[level.at[:, None] + np.arange(length)]
        _, form = np.unique(forms, axis=0, return_inverse=True)
        run = np.repeat(np.arange(len(level.parts)), level.n_rows)
        weight = np.where(self.initial[level.at], INITIAL, 1.0)
        _, first, pair = np.unique(
            run * len(forms) + form.ravel(), return_index=True, return_inverse=True
        )
        counts = np.bincount(pair.ravel(), weight)
        best = np.lexsort((first, -counts, run[first]))
        chosen = first[best[np.unique(run[first][best], return_index=True)[1]]]
        out = []
        for place in chosen.tolist():
            parts = [self.surfaces[token] for token in forms[place].tolist()]
            if self.initial[level.at[place]] and parts[0][1:].islower():
                parts[0] = parts[0].lower()
            out.append((" " if self.spaced else "").join(parts))
        return out


@dataclass(frozen=True)
class Level:
    """Frequent runs of one length.

    Attributes
    ----------
    run_at : (n,) int64
        The run that begins at each place of the stream, -1 for none.
    parts : (g, length) int64
        The keys of each run.
    at : (o,) int64
        Where each run begins, once a row, in the order of the runs.
    bounds : (g + 1,) int64
        Places in `at` of each run.
    inside : (g, 2) int64
        The runs of one token less that it begins and ends with.
    """

    run_at: Ints
    parts: Ints
    at: Ints
    bounds: Ints
    inside: Ints

    @property
    def n_rows(self) -> Ints:
        """Rows that hold each run (g,)."""
        return np.diff(self.bounds)


def levels(stream: Stream, longest: int, least: int) -> list[Level]:
    """Return the runs of keys that are in at least `least` rows, by length from one."""
    found: list[Level] = []
    keys = np.full(len(stream.tokens), -1, np.int64)
    there = stream.tokens >= 0
    keys[there] = stream.key_of[stream.tokens[there]]
    for length in range(1, longest + 1):
        if not found:
            places = np.flatnonzero(keys >= 0)
            code = keys[places]
        else:
            before = found[-1].run_at
            places = np.flatnonzero((before[:-1] >= 0) & (before[1:] >= 0))
            code = before[places] * len(found[-1].parts) + before[places + 1]
        if not len(places):
            break
        _, run = np.unique(code, return_inverse=True)
        pair = run * (int(stream.rows[-1]) + 1) + stream.rows[places]
        once = np.unique(pair, return_index=True)[1]  # in the order of runs, then of rows
        counts = np.bincount(run[once])
        kept = counts >= least
        if not kept.any():
            break
        run_at = np.full(len(keys), -1, np.int64)
        run_at[places] = np.where(kept, np.cumsum(kept) - 1, -1)[run]
        at = places[once][kept[run[once]]]
        bounds = np.concatenate([[0], np.cumsum(counts[kept])])
        starts = at[bounds[:-1]]
        inside = np.zeros((len(starts), 2), np.int64)
        if found:
            inside = np.stack([found[-1].run_at[starts], found[-1].run_at[starts + 1]], axis=1)
        parts = keys[starts[:, None] + np.arange(length)]
        found.append(Level(run_at, parts, at, bounds, inside))
    return found


class _Writer:
    """A stream in the making."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.tokens: list[int] = []
        self.rows: list[int] = []
        self.initial: list[bool] = []

    def put(self, token: str, row: int, *, initial: bool) -> None:
        self.tokens.append(self.vocabulary.setdefault(token, len(self.vocabulary)))
        self.rows.append(row)
        self.initial.append(initial)

    def end(self, row: int) -> None:
        """End a phrase."""
        if self.tokens and self.tokens[-1] >= 0:
            self.tokens.append(-1)
            self.rows.append(row)
            self.initial.append(False)

    def stream(self, languages: Sequence[str], *, spaced: bool) -> Stream:
        lower = [surface.lower() for surface in self.vocabulary]
        stems = stem_words(lower, languages) if spaced else lower
        keys = {stem: number for number, stem in enumerate(dict.fromkeys(stems))}
        return Stream(
            tuple(self.vocabulary),
            np.array(self.tokens, np.int64),
            np.array(self.rows, np.int64),
            np.array(self.initial, bool),
            spaced,
            tuple(keys),
            np.array([keys[stem] for stem in stems], np.int64),
        )


def read_streams(texts: Iterable[str], languages: Sequence[str]) -> tuple[Stream, Stream]:
    """Return the words of the texts, and the units of scripts that write no spaces."""
    spaced, spaceless = _Writer(), _Writer()
    for row, text in enumerate(texts):
        for phrase in BREAKS.split(text):
            for number, word in enumerate(words(phrase)):
                if scripts.is_spaceless(word) and scripts.kind(word) != "katakana":
                    spaced.end(row)
                    for unit in scripts.units(word):
                        spaceless.put(unit, row, initial=False)
                    spaceless.end(row)
                else:
                    spaced.put(word, row, initial=number == 0)
            spaced.end(row)
    return spaced.stream(languages, spaced=True), spaceless.stream(languages, spaced=False)
