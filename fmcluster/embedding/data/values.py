"""One row of the data: what it is, what its bytes are, and how it becomes a text or an image.

A raw row is a string, a PIL image, a uint8 pixel array, encoded image bytes, a path, the HF
``Image`` storage struct (``bytes``, ``path``), or None where the value is missing.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.utils.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"}
)
_CHUNK = 1 << 20


class UnreadableRow(Exception):  # noqa: N818 - never leaves the package
    """A row that cannot become a text or an image; the message is the reason."""


def is_missing(row: Any) -> bool:
    """Return whether a value stands for "nothing here": None, NaN, NA, an empty struct."""
    if row is None or (isinstance(row, (float, np.floating)) and row != row):
        return True
    if isinstance(row, Mapping):
        return bool({"bytes", "path"} & set(row)) and not (
            row.get("bytes") is not None or row.get("path")
        )
    return type(row).__name__ in ("NAType", "NaTType")


def is_pil(row: Any) -> bool:
    """Return whether `row` is a PIL image, without importing PIL."""
    return any(kind.__module__.startswith("PIL.") for kind in type(row).__mro__)


def kind_of(row: Any, *, strings_are_paths: bool = False) -> str | None:
    """Return "text", "image" or "embedding"; None for a missing value.

    Raises
    ------
    DataError
        A type that is none of these.
    """
    if is_missing(row):
        return None
    if isinstance(row, str):
        return "image" if strings_are_paths else "text"
    if isinstance(row, (bytes, bytearray, os.PathLike)) or is_pil(row):
        return "image"
    if isinstance(row, Mapping) and {"bytes", "path"} & set(row):
        return "image"
    if isinstance(row, np.ndarray) and row.dtype == np.uint8 and row.ndim in (2, 3):
        return "image"
    if isinstance(row, (np.ndarray, list, tuple)) and np.asarray(row).dtype.kind in "fiub":
        return "embedding"
    raise DataError(
        f"a row of type {type(row).__name__} ({str(row)[:40]!r}) is no text, image or vector"
    )


def names_image(row: Any, base: Path | None) -> bool:
    """Return whether a string is the path of an image file that exists."""
    if not isinstance(row, str) or Path(row).suffix.lower() not in IMAGE_SUFFIXES:
        return False
    try:
        return resolve_path(row, base).is_file()
    except (OSError, ValueError):
        return False


def resolve_path(path: str | os.PathLike[str], base: Path | None) -> Path:
    """Return `path`, taken from `base` where it is relative."""
    return (base / path) if base is not None else Path(path)


def update_digest(digest: Any, row: Any, *, base: Path | None, strings_are_paths: bool) -> None:
    """Add one row's content to a running SHA-256, so that no two columns of rows collide."""
    parts = list(_content(row, base, strings_are_paths))
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    digest.update(b"\n")


def _content(row: Any, base: Path | None, strings_are_paths: bool) -> Iterator[bytes]:
    if is_missing(row):
        yield b"missing"
    elif isinstance(row, Mapping) and row.get("bytes") is not None:
        yield from (b"image", row["bytes"])
    elif isinstance(row, Mapping):
        yield from (b"image", _file_digest(resolve_path(row["path"], base)))
    elif isinstance(row, os.PathLike) or (strings_are_paths and isinstance(row, str)):
        yield from (b"image", _file_digest(resolve_path(row, base)))
    elif isinstance(row, str):
        yield from (b"text", row.encode("utf-8", "surrogatepass"))
    elif isinstance(row, (bytes, bytearray)):
        yield from (b"image", bytes(row))
    elif is_pil(row):
        yield from (b"pixels", f"{row.mode}{row.size}".encode(), _pixels(row))
    else:
        array = np.ascontiguousarray(row)
        yield from (b"array", f"{array.dtype.str}{array.shape}".encode(), array.tobytes())


def _unloaded(image: Image) -> Image:
    """Open an image once more that was opened by name and never read.

    Reading the given one would keep its pixels in the caller's list for good.
    """
    from PIL import Image

    name = getattr(image, "filename", None)
    state = image.__dict__
    if not name or state.get("_im", state.get("im")) is not None or not os.path.isfile(name):
        return image
    return Image.open(io.BytesIO(Path(name).read_bytes()))


def _pixels(image: Image) -> bytes:
    try:
        return _unloaded(image).tobytes()
    except (OSError, ValueError, SyntaxError) as error:
        return f"unreadable: {error}".encode()


def _file_digest(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").digest()
    except OSError:
        return b"unreadable"


def read_text(row: Any) -> str:
    """Return a text that is not empty.

    Raises
    ------
    UnreadableRow
        Missing, or nothing but white space.
    """
    if is_missing(row):
        raise UnreadableRow("the text is missing")
    if not row.strip():
        raise UnreadableRow("the text is empty")
    return str(row)


def read_image(row: Any, base: Path | None = None) -> Image:
    """Return a loaded RGB image, turned upright by its EXIF tag.

    Raises
    ------
    UnreadableRow
        Missing, not an image, truncated, or above PIL's limit of pixels (a decompression bomb).
    """
    from PIL import Image, ImageOps

    if is_missing(row):
        raise UnreadableRow("the image is missing")
    try:
        image = _opened(row, base)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise UnreadableRow(
                f"the image has {image.width} x {image.height} pixels, more than the limit of "
                f"{limit} (PIL.Image.MAX_IMAGE_PIXELS)"
            )
        image.load()
        # Sixteen-bit grey would be clipped, not scaled, on its way to RGB.
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
        return ImageOps.exif_transpose(image).convert("RGB")
    except UnreadableRow:
        raise
    except Exception as error:
        # A damaged file can raise anything out of PIL's decoders; all of it means this one thing.
        raise UnreadableRow(f"the image cannot be read: {error}") from None


def _opened(row: Any, base: Path | None) -> Image:
    from PIL import Image

    if is_pil(row):
        return _unloaded(row)
    if isinstance(row, np.ndarray):
        return Image.fromarray(row[..., 0] if row.ndim == 3 and row.shape[-1] == 1 else row)
    if isinstance(row, Mapping):
        row = row["bytes"] if row.get("bytes") is not None else row["path"]
    if isinstance(row, (str, os.PathLike)):
        # Read whole: an image opened by name would keep its file handle.
        row = resolve_path(row, base).read_bytes()
    return Image.open(io.BytesIO(row))
