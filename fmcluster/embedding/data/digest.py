"""Digests of raw rows: by them data are known again, whatever the format they came in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.embedding.data.audio import UnreadableAudio, is_recording, to_sound
from fmcluster.embedding.data.images import read_regular
from fmcluster.embedding.data.values import (
    ADDRESS,
    UnreadableRow,
    as_array,
    is_blank,
    is_missing,
    is_pil,
    path_in_row,
    resolve_path,
    unloaded,
)

if TYPE_CHECKING:
    from PIL.Image import Image

# The tag of the camera's orientation in EXIF.
_ORIENTATION = 0x0112


def update_digest(digest: Any, row: Any, *, base: Path | None, strings_are_paths: bool) -> None:
    """Add one row's content to a running SHA-256, so that no two columns of rows collide."""
    parts = list(_content(row, base, strings_are_paths))
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    digest.update(b"\n")


def _content(row: Any, base: Path | None, strings_are_paths: bool) -> Iterator[bytes]:
    if is_missing(row) or (strings_are_paths and is_blank(row)):
        yield b"missing"
    elif isinstance(row, Mapping) and row.get("bytes") is not None:
        yield from (b"image", row["bytes"])  # a recording's, too: the modality tells them apart
    elif is_recording(row):
        yield from _samples(row)
    elif isinstance(row, Mapping):
        try:
            yield from (b"image", _file_digest(path_in_row(row["path"], base)))
        except UnreadableRow as error:
            yield from (b"image", str(error).encode("utf-8", "surrogatepass"))
    elif isinstance(row, os.PathLike) or (strings_are_paths and isinstance(row, str)):
        yield from (b"image", _file_digest(resolve_path(row, base)))
    elif isinstance(row, str):
        yield from (b"text", row.encode("utf-8", "surrogatepass"))
    elif isinstance(row, (bytes, bytearray)):
        yield from (b"image", bytes(row))
    elif is_pil(row):
        yield from (b"pixels", *_look(row))
    else:
        array = np.ascontiguousarray(as_array(row))
        yield from (b"array", f"{array.dtype.str}{array.shape}".encode(), array.tobytes())


def _look(image: Image) -> Iterator[bytes]:
    """Yield what decides how an image looks: pixels, palette, transparency, orientation."""
    try:
        image = unloaded(image)
        image.load()
        yield f"{image.mode}{image.size}".encode()
        yield image.tobytes()
        # Only what is there: plain images keep the digest they always had.
        if image.mode in ("P", "PA"):
            yield b"palette" + bytes(image.getpalette("RGBA") or ())
        if "transparency" in image.info:
            yield f"transparency{image.info['transparency']!r}".encode()
        if orientation := image.getexif().get(_ORIENTATION, 1):
            yield from () if orientation == 1 else (f"orientation{orientation}".encode(),)
    except (OSError, ValueError, SyntaxError) as error:
        # Without what memory address the message names: stores of the same data are equal.
        yield ADDRESS.sub("", f"unreadable: {error}").encode("utf-8", "backslashreplace")


def _samples(row: Any) -> Iterator[bytes]:
    """Yield rate and samples of a recording in memory."""
    try:
        sound = to_sound(row)
        yield from (b"sound", str(sound.rate).encode(), sound.samples.tobytes())
    except UnreadableAudio as error:
        yield from (b"sound", str(error).encode())


def _file_digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(read_regular(path)).digest()
    except (OSError, ValueError):
        return b"unreadable"
