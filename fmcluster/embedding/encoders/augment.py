"""Augmented inputs for cached views: what the published heads train on, made once and seeded.

Images (SimCLR, arXiv 2002.05709; "strong" adds RandAugment, 1909.13719, and cutout, 1708.04552):
random resized crop, flip, colour jitter, grey. Texts (EDA, 1901.11196): word dropout, deletion of
a span, swaps of neighboring words. Recordings: `fmcluster.embedding.encoders.audio.augment`.

Each row draws from a stream of its own, seeded by (seed, row number): the same bytes however the
rows are batched, resumed or shared among processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.embedding.data.images import to_rgb
from fmcluster.embedding.encoders.audio import augment as sounds
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    from PIL import Image

MODALITIES = ("image", "audio", "text")
STRENGTHS = ("weak", "strong")
# SimCLR's and MoCo's crops, jitter and flips; weak ones keep more of the picture.
IMAGE = {
    "weak": {"scale": (0.4, 1.0), "flip": 0.5, "jitter": 0.4, "hue": 0.1, "grey": 0.1},
    "strong": {"scale": (0.2, 1.0), "flip": 0.5, "jitter": 0.4, "hue": 0.1, "grey": 0.2},
}
# RandAugment's usual two operations of magnitude 9, one cutout of a quarter of the side.
RAND_OPERATIONS, RAND_MAGNITUDE, CUTOUT_SHARE = 2, 9, 0.25
# Share of the words left out, of a run of them cut out, and of neighbors exchanged; weak ones keep
# nine words of ten.
TEXT = {
    "weak": {"drop": 0.1, "span": 0.1, "swap": 0.05},
    "strong": {"drop": 0.2, "span": 0.25, "swap": 0.15},
}
VERSION = 1  # in the fingerprint: a change of what follows makes views anew


def augment(
    rows: Sequence[Any],
    modality: str,
    *,
    strength: str = "weak",
    seed: int = 0,
    row_offset: int | Sequence[int] = 0,
) -> list[Any]:
    """Return an augmented copy of every row; the given rows are left as they are.

    Parameters
    ----------
    rows : sequence of PIL images or arrays, of str, or of recordings
    modality : "image", "audio" or "text"
    strength : "weak" or "strong"
    seed : int
        One view; another seed is another view of the same rows.
    row_offset : int or sequence of int
        Number of the first row in the whole data (row i draws from (seed, row_offset + i)), or
        the number of each row, where some are left out.

    Returns
    -------
    list
        RGB images of the sizes given, `Sound`, or strings with at least one word where there was.
    """
    check_in(modality, MODALITIES, "modality")
    check_in(strength, STRENGTHS, "augment")
    numbers: Sequence[int] = (
        range(row_offset, row_offset + len(rows)) if isinstance(row_offset, int) else row_offset
    )
    if len(numbers) != len(rows):
        raise ValueError(f"{len(numbers)} row numbers for {len(rows)} rows: they must be equal")
    seeds = [seed_of(int(seed), "augment", int(number)) for number in numbers]
    if modality == "image":
        return _images(rows, strength, seeds)
    if modality == "audio":
        return sounds.augmented(rows, strength, seeds)
    return [
        _text(row, np.random.default_rng(own), **TEXT[strength])
        for row, own in zip(rows, seeds, strict=True)
    ]


def augment_fingerprint(modality: str, *, strength: str = "weak", seed: int = 0) -> dict[str, Any]:
    """Return what decides the bytes of :func:`augment`, JSON-able."""
    check_in(modality, MODALITIES, "modality")
    check_in(strength, STRENGTHS, "augment")
    if modality == "audio":
        settings = asdict(sounds.AUDIO[strength])
    else:
        settings = dict((TEXT if modality == "text" else IMAGE)[strength])
    if modality == "image":
        settings["scale"] = list(settings["scale"])
        if strength == "strong":
            settings["randaugment"] = [RAND_OPERATIONS, RAND_MAGNITUDE]
            settings["cutout"] = CUTOUT_SHARE
    return {"augment": strength, "seed": int(seed), "version": VERSION, "settings": settings}


def _images(rows: Sequence[Any], strength: str, seeds: list[int]) -> list[Image.Image]:
    transforms: dict[tuple[int, int], Callable[[Any], Any]] = {}
    out = []
    for row, seed in zip(rows, seeds, strict=True):
        image = to_rgb(row)
        if image.size not in transforms:
            transforms[image.size] = _transform(strength, image.size)
        with _drawn_from(seed):
            out.append(transforms[image.size](image))
    return out


def _drawn_from(seed: int) -> AbstractContextManager[Any]:
    """Give what torch draws inside, on this thread, from a generator of its own.

    torchvision's transforms draw from torch's global generator and take no other. Seeding that one
    would move the caller's numbers, and mix the streams of two threads.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    names = ("rand", "randn", "randint", "randperm", "multinomial")
    drawing = {getattr(torch, name) for name in names}
    drawing |= {torch.Tensor.uniform_, torch.Tensor.normal_}
    generator = torch.Generator().manual_seed(seed)

    class _Own(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            own = {"generator": generator} if func in drawing else {}
            return func(*args, **{**(kwargs or {}), **own})

    return _Own()


def _transform(strength: str, size: tuple[int, int]) -> Callable[[Any], Any]:
    """Return the torchvision pipeline for images of `size` (width, height)."""
    import torch
    from torchvision.transforms import InterpolationMode, v2

    settings: dict[str, Any] = IMAGE[strength]
    jitter = settings["jitter"]
    steps: list[Any] = [
        v2.RandomResizedCrop(
            (size[1], size[0]), scale=settings["scale"], interpolation=InterpolationMode.BICUBIC
        ),
        v2.RandomHorizontalFlip(settings["flip"]),
        # SimCLR's chance of a jitter.
        v2.RandomApply([v2.ColorJitter(jitter, jitter, jitter / 2, settings["hue"])], p=0.8),
        v2.RandomGrayscale(settings["grey"]),
    ]
    if strength == "strong":
        steps.append(v2.RandAugment(RAND_OPERATIONS, RAND_MAGNITUDE))
        hole = (CUTOUT_SHARE, CUTOUT_SHARE)
        steps += [
            v2.PILToTensor(),
            # Middle grey, always, a square.
            v2.RandomErasing(p=1.0, scale=hole, ratio=(1.0, 1.0), value=127),
            v2.ToDtype(torch.uint8),
            v2.ToPILImage(),
        ]
    return v2.Compose(steps)


def _text(text: Any, draw: np.random.Generator, *, drop: float, span: float, swap: float) -> str:
    """Return `text` with words dropped, a span cut out and neighbors swapped."""
    if not isinstance(text, str):
        raise TypeError(f"text augmentation needs strings, got {type(text).__name__}")
    words = text.split()
    if len(words) < 2:
        return text
    length = int(np.ceil(span * len(words) * draw.random()))
    start = int(draw.integers(len(words) - length + 1))
    kept = words[:start] + words[start + length :] or words
    survivors = [
        word for word, luck in zip(kept, draw.random(len(kept)), strict=True) if luck >= drop
    ]
    kept = survivors or [kept[int(draw.integers(len(kept)))]]
    for i in range(len(kept) - 1):
        if draw.random() < swap:
            kept[i], kept[i + 1] = kept[i + 1], kept[i]
    return " ".join(kept)
