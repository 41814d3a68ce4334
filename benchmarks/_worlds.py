"""Worlds: cuts of labelled sets in the eyes of one encoder or two, half to think with.

A world is a *cut* (a set, a number of its classes, and how their sizes fall) seen through an
encoder. All encoders of a cut are in one half, "think" or "confirm", by a hash of the cut's name,
so that nothing that was decided on a cut is confirmed on its rows in other clothes. Cuts of one
set share rows nevertheless: only sets that are not here are wholly unseen.

    from _worlds import load, worlds
    for world in worlds("think"):
        X, y, texts = load(world)   # X is an array, or a list of two for "minilm+tfidf"

Labels choose the rows of a cut; a method sees rows and the number of classes alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from _world_sets import TEXTS, cache_folder, labels_of, rows_of, texts_of
from numpy.typing import NDArray

# Rows of a world: enough for every statistic, and two hundred worlds stay an evening's work.
CAP = 3_000
# Some worlds at the size that sets are clustered at.
FULL = 10_000
# The smallest class of a cut: fewer rows are no cluster that anything could find.
SMALLEST = 3
# Classes whose sizes differ by no more than this are given their ranks by lot.
ALIKE = 3.0

# Set -> number of classes -> cuts. A cut is "natural", "even" (ratio 1), or a profile and its
# ratio, "exp50"; with "+" it is also there at full size.
PLAN: dict[str, dict[str, str]] = {
    "stackoverflow": {
        "4": "natural exp10 exp50 pareto50",
        "8": "natural exp10 exp50 pareto100",
        "12": "even exp10 exp50 exp100",
        "all": "natural+ exp10 exp50+ exp100 pareto50",
    },
    "agnews": {
        "all": "natural+ exp10 exp50 exp100 pareto10 pareto50 pareto100",
    },
    "banking77": {
        "4": "natural exp10 pareto10",
        "8": "natural exp10 exp50",
        "12": "exp10 pareto50",
        "20": "natural even exp10 exp50 pareto10",
        "all": "natural+ even exp10 exp50 pareto50",
    },
    "tweet": {
        "4": "exp10 exp50",
        "8": "natural exp10",
        "20": "natural exp50",
        "all": "natural",
    },
    "googlenews_t": {
        "4": "exp10 exp50",
        "8": "natural even exp10 exp50",
        "20": "natural even exp10 exp50",
        "40": "natural exp10",
        "all": "natural+",
    },
    "brown": {
        "4": "natural even exp10 exp50",
        "8": "natural exp10 exp50",
        "all": "natural exp10 exp50",
    },
    "mail": {
        "3": "natural exp10",
        "4": "natural exp10 exp50",
        "all": "natural exp10 exp50 pareto100",
    },
    "bbc": {
        "4": "natural exp10 pareto50",
        "all": "natural even exp10 exp50",
    },
    "cifar10_test": {
        "4": "natural exp10 exp50",
        "8": "exp10 exp50 pareto50",
        "all": "natural exp10 exp50 exp100 pareto50",
    },
    "fashion": {
        "4": "natural exp10 exp50",
        "8": "even exp10 pareto50",
        "all": "natural+ exp10 exp50+ exp100 pareto100",
    },
    "mnist": {
        "4": "exp10 exp50",
        "8": "natural exp50",
        "all": "natural exp10 exp50 pareto50",
    },
    "digits": {
        "4": "exp10",
        "all": "natural exp10 exp50",
    },
}
# What a cut is seen through beside its first encoder: one of these, by the hash of its name.
BESIDE: dict[str, tuple[tuple[str, ...], ...]] = {
    "text": (
        ("tfidf", "minilm+tfidf"),
        ("tfidf", "minilm+tfidf"),
        ("wordllama",),
        ("wordllama", "tfidf", "wordllama+tfidf"),
        (),
        (),
    ),
    "cifar10_test": (("lite2-96",), ("lite2-160",), ("lite2-96", "lite2-160"), ()),
    "fashion": (("pixels",), ("lite2-96",), ("pixels", "lite0-96+pixels"), (), ()),
    "mnist": (("lite0-96",), ("lite0-96", "pixels+lite0-96"), ()),
    "digits": ((),),
}
FIRST = {"cifar10_test": "lite0-96", "fashion": "lite0-96", "mnist": "pixels", "digits": "pixels"}


@dataclass(frozen=True)
class World:
    """A cut of a set through one encoder, or two ("minilm+tfidf").

    Attributes
    ----------
    name : str
        Such as ``stackoverflow-8-exp50@minilm``; ``-full`` before the ``@`` at full size.
    set : str
        The labelled set.
    encoder : str
        What its rows were embedded with; two are joined by "+".
    classes : str
        Their number, or "all".
    profile : {"natural", "even", "exp", "pareto"}
        How sizes fall.
    ratio : int
        Largest over smallest class; 1 for "even", 0 for "natural".
    rows : int
        At most so many.
    """

    name: str
    set: str
    encoder: str
    classes: str
    profile: str
    ratio: int
    rows: int

    @property
    def cut(self) -> str:
        """Return the name of the cut: neither encoder nor size is in it."""
        return f"{self.set}-{self.classes}-{self.profile}{self.ratio or ''}"

    @property
    def half(self) -> str:
        """Return "think" or "confirm"."""
        return ("think", "confirm")[draw(self.cut, "half") % 2]

    @property
    def kind(self) -> str:
        """Return "natural", "even" or "long tail"."""
        return {"natural": "natural", "even": "even"}.get(self.profile, "long tail")

    @property
    def encoders(self) -> list[str]:
        """Return the encoder of each space."""
        return self.encoder.split("+")

    @property
    def modality(self) -> str:
        """Return "text" or "image"."""
        return "text" if self.set in TEXTS else "image"


def draw(name: str, purpose: str) -> int:
    """Return a large number that depends on a name and a purpose alone."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode()).digest()[:8], "big")


def worlds(half: str | None = None) -> list[World]:
    """Return all worlds, or those of one half, in the order of the plan.

    Raises
    ------
    ValueError
        `half` is neither "think" nor "confirm" nor None.
    """
    if half not in (None, "think", "confirm"):
        raise ValueError(f"half={half!r} must be 'think', 'confirm' or None for both")
    return [world for world in _planned() if half in (None, world.half)]


def _planned() -> Iterator[World]:
    """Yield every world of the plan."""
    for name, by_classes in PLAN.items():
        for classes, cuts in by_classes.items():
            for asked in cuts.split():
                cut = f"{name}-{classes}-{asked.rstrip('+')}"
                for encoder in _encoders(name, cut):
                    yield _world(cut, encoder, CAP)
                    if asked.endswith("+") and encoder == _encoders(name, cut)[0]:
                        yield _world(cut, encoder, FULL)


def _encoders(name: str, cut: str) -> list[str]:
    """Return the encoders of a cut: the first of its set, then those that the hash says."""
    beside = BESIDE["text" if name in TEXTS else name]
    return [FIRST.get(name, "minilm"), *beside[draw(cut, "encoders") % len(beside)]]


def _world(cut: str, encoder: str, rows: int) -> World:
    name, classes, asked = cut.rsplit("-", 2)
    profile = asked.rstrip("0123456789")
    ratio = int(asked[len(profile) :] or (profile == "even"))
    mark = "-full" if rows == FULL else ""
    return World(f"{cut}{mark}@{encoder}", name, encoder, classes, profile, ratio, rows)


def find(name: str) -> World:
    """Return the world of a name.

    Raises
    ------
    ValueError
        There is none; those of the same set are listed.
    """
    there = {world.name: world for world in worlds()}
    if name not in there:
        of_set = [known for known in there if known.startswith(name.split("-")[0])]
        raise ValueError(f"no world {name!r}; there are {', '.join(of_set or list(PLAN))}")
    return there[name]


def shares(n_classes: int, profile: str, ratio: float) -> NDArray[np.float64]:
    """Return sizes of classes relative to the largest, falling.

    Exponential: ratio ** (-i / (k - 1)). Pareto: (1 + i (ratio ** (1 / a) - 1) / (k - 1)) ** -a
    with a = 2: a short head and a long flat tail. Both end at 1 / ratio.
    """
    rank = np.arange(n_classes) / max(n_classes - 1, 1)
    if profile == "even":
        return np.ones(n_classes)
    if profile == "exp":
        return np.asarray(ratio**-rank)
    if profile == "pareto":
        return np.asarray((1 + rank * (ratio**0.5 - 1)) ** -2.0)
    raise ValueError(f"profile={profile!r} must be 'even', 'exp' or 'pareto'")


def cut_rows(y: NDArray[Any], world: World) -> NDArray[np.int64]:
    """Return the rows of a world among those of its set, ascending; the cut's name is the seed.

    Raises
    ------
    ValueError
        The set has too few rows for the cut.
    """
    rng = np.random.default_rng(draw(world.cut, "rows"))
    codes, sizes = np.unique(y, return_counts=True)
    least = SMALLEST if world.profile == "natural" else _least(sizes, world)
    codes, sizes = codes[sizes >= least], sizes[sizes >= least]
    n_classes = len(np.unique(y)) if world.classes == "all" else int(world.classes)
    if world.classes == "all" and world.profile == "natural":
        codes = np.unique(y)
    if len(codes) < n_classes:
        raise ValueError(
            f"{world.name}: {len(codes)} classes of {world.set} have {least} rows, not {n_classes}"
        )
    chosen = codes if world.classes == "all" else rng.permutation(codes)[:n_classes]
    members = [rng.permutation(np.flatnonzero(y == code)) for code in chosen]
    if world.profile == "natural":
        kept = rng.permutation(np.concatenate(members))[: world.rows]
        return np.sort(kept).astype(np.int64)
    order = rng.permutation(n_classes)
    there = np.array([len(rows) for rows in members])
    if there.max() > ALIKE * there.min():
        order = np.argsort(-there, kind="stable")
    falling = shares(n_classes, world.profile, world.ratio)
    most = min(world.rows / falling.sum(), (there[order] / falling).min())
    counts = np.maximum(np.round(most * falling), SMALLEST).astype(int)
    kept = np.concatenate([members[i][:n] for i, n in zip(order, counts, strict=True)])
    return np.sort(kept).astype(np.int64)


def _least(sizes: NDArray[np.int64], world: World) -> int:
    """Return how many rows a class needs for an even or long-tailed cut.

    Of sets with skewed sizes only the larger classes are cut, or the head would be small: those
    with half the rows of the class that is the last to be needed.
    """
    needed = len(sizes) if world.classes == "all" else int(world.classes)
    return max(SMALLEST, int(np.sort(sizes)[::-1][needed - 1] / 2))


def load(world: World) -> tuple[Any, NDArray[np.int64], list[str] | None]:
    """Return what a method sees of a world, its classes 0..K-1, and its texts if it has any.

    Returns
    -------
    X : (n, d) float32 array, or a list of two
        Rows as the encoder gives them: not of unit length where the encoder's are not.
    y : (n,) int64 array
        Classes, to evaluate alone.
    texts : list of str or None

    Raises
    ------
    FileNotFoundError
        The set was not embedded with this encoder yet; says how.
    """
    y = labels_of(world.set)
    rows = cut_rows(y, world)
    texts = [texts_of(world.set)[i] for i in rows] if world.modality == "text" else None
    spaces = [_space(world, encoder, rows, texts) for encoder in world.encoders]
    codes = np.unique(y[rows], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return spaces[0] if len(spaces) == 1 else spaces, codes, texts


def _space(
    world: World, encoder: str, rows: NDArray[np.int64], texts: list[str] | None
) -> NDArray[np.float32]:
    """Return the rows of a world through one encoder; tfidf is fitted on the world's own texts."""
    if encoder != "tfidf":
        return np.ascontiguousarray(rows_of(world.set, encoder)[rows], dtype=np.float32)
    path = cache_folder() / "tfidf" / f"{world.name.partition('@')[0]}.npy"
    if not path.is_file():
        from fmcluster.embedding.encoders.tfidf import TfidfEncoder

        found = np.asarray(TfidfEncoder().fit(texts).encode(texts), np.float32)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, found)
        part.replace(path)
    return np.asarray(np.load(path), np.float32)
