"""Whether a file is an image or a recording: by its name, or by how its bytes begin."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from fmcluster.embedding.data.audio import AUDIO_SUFFIXES, is_recording, starts_as_audio
from fmcluster.embedding.data.images import IMAGE_SUFFIXES, readable_suffixes
from fmcluster.utils.errors import DataError

# Kinds of files that are rows by themselves; where nothing tells, a file is an image.
MEDIA = ("image", "audio")
# The longest beginning that tells a container apart ("RIFF....WAVE", "FORM....AIFF").
_HEAD = 16


def suffixes_of(media: str) -> frozenset[str]:
    """Return the file suffixes of "image" or "audio" that can be read here."""
    return AUDIO_SUFFIXES if media == "audio" else readable_suffixes()


def media_of_name(name: str | os.PathLike[str]) -> str | None:
    """Return "image" or "audio" by a file name's ending; None where it is of neither."""
    suffix = PurePath(name).suffix.lower()
    if suffix in AUDIO_SUFFIXES:
        return "audio"
    return "image" if suffix in IMAGE_SUFFIXES else None


def media_of_row(row: Any) -> str:
    r"""Return "image" or "audio" of a row that is, holds or names one; images where nothing tells.

    >>> media_of_row(b"fLaC\0\0\0"), media_of_row({"path": "a.PNG"})
    ('audio', 'image')
    """
    if is_recording(row):
        return "audio"
    if isinstance(row, Mapping):
        row = row.get("path") if row.get("bytes") is None else row["bytes"]
    if isinstance(row, (bytes, bytearray, memoryview)):
        return "audio" if starts_as_audio(bytes(row[:_HEAD])) else "image"
    named = isinstance(row, (str, os.PathLike)) and media_of_name(row)
    return named or "image"


def kind_of_files(place: Any, names: Sequence[str], modality: str | None) -> str:
    """Return whether the files of a folder or archive are read as images or as recordings.

    Raises
    ------
    DataError
        There are both, and `modality` does not say which are meant.
    """
    if modality in MEDIA:
        return str(modality)
    count = {m: sum(media_of_name(name) == m for name in names) for m in MEDIA}
    if all(count.values()):
        raise DataError(
            f"{place} holds {count['image']} images and {count['audio']} recordings: say which are "
            "the rows, modality='image' or modality='audio'"
        )
    return "audio" if count["audio"] else "image"
