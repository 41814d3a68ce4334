"""Augmented recordings: a part of them, louder or softer, with noise and, if strong, a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmcluster.embedding.data.audio import Sound, to_sound


@dataclass(frozen=True)
class Strength:
    """How far a recording is changed.

    Attributes
    ----------
    least_share : float
        The least part of it that is kept.
    gain : float
        Decibels up or down at most.
    noise : float
        Decibels that white noise lies below it at least.
    gap : float
        Share of the kept part that is silenced at most.
    """

    least_share: float
    gain: float
    noise: float
    gap: float


# A listener still hears the same of a weak view; of a strong one half of the words may be lost.
AUDIO = {"weak": Strength(0.8, 6.0, 30.0, 0.0), "strong": Strength(0.5, 12.0, 15.0, 0.2)}


def augmented(rows: Sequence[Any], strength: str, seeds: Sequence[int]) -> list[Sound]:
    """Return an augmented copy of every recording, each drawn from its own seed."""
    return [
        _view(to_sound(row), AUDIO[strength], np.random.default_rng(seed))
        for row, seed in zip(rows, seeds, strict=True)
    ]


def _view(sound: Sound, how: Strength, draw: np.random.Generator) -> Sound:
    count = max(1, round(len(sound.samples) * draw.uniform(how.least_share, 1)))
    start = int(draw.integers(len(sound.samples) - count + 1))
    kept = sound.samples[start : start + count] * 10 ** (draw.uniform(-how.gain, how.gain) / 20)
    level = float(np.sqrt(np.mean(np.square(kept, dtype=np.float64))))
    # As quiet again as the bound, or up to twice its decibels: most views are cleaner than it.
    below = how.noise * draw.uniform(1, 2)
    kept = kept + draw.normal(0, level * 10 ** (-below / 20), count)
    gap = int(count * draw.uniform(0, how.gap))
    first = int(draw.integers(count - gap + 1))
    kept[first : first + gap] = 0
    return Sound(kept.astype(np.float32), sound.rate)
