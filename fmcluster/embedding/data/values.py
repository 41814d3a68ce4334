"""One row of the data: what it is, what its bytes are, and how it is read.

A raw row is a string, a PIL image, a uint8 pixel array, the bytes of an image or a recording, a
path, the HF ``Image`` or ``Audio`` storage struct (``bytes``, ``path``), samples with their rate
(``array``, ``sampling_rate``), or None where the value is missing.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.audio import (
    Sound,
    UnreadableAudio,
    audio_bytes,
    decode_audio,
    is_recording,
    to_sound,
)
from fmcluster.embedding.data.images import (
    open_image,
    open_regular,
    read_regular,
    to_rgb,
)
from fmcluster.embedding.data.media import MEDIA, media_of_name, media_of_row
from fmcluster.utils.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# No tokenizer and no UTF-8 file takes them; they come of cut UTF-16, as in "\\ud83d" alone.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Two numbers at least, in brackets: "[0.1, 2e-3]". One alone may be a reference in a text.
_WRITTEN = re.compile(
    r"\s*\[\s*[-+]?[\d.]+(e[-+]?\d+)?([\s,]+[-+]?[\d.]+(e[-+]?\d+)?)+\s*,?\s*\]\s*", re.I
)
# Memory addresses in messages: no two runs have the same.
ADDRESS = re.compile(r" at 0x[0-9a-f]+|<_io\.[^>]*>")


# Why a row of nothing cannot be read: it is no damage.
NOTHING = (
    "the text is missing",
    "the text is empty",
    *(f"the {kind} is missing" for kind in MEDIA),
)


class UnreadableRow(Exception):  # noqa: N818 - never leaves the package
    """A row that cannot become what is encoded; the message is the reason."""


class DamagedBytes(bytes):
    """In place of the bytes of a file that could not be had: the reason, for the row's error."""

    def __new__(cls, reason: str) -> DamagedBytes:
        """Hold the reason as bytes: they are no file, and rows damaged alike have one digest."""
        return super().__new__(cls, reason.encode("utf-8", "backslashreplace"))


def is_missing(row: Any) -> bool:
    """Return whether a value stands for "nothing here": None, NaN, NA, an empty struct."""
    if row is None or (isinstance(row, (float, np.floating)) and row != row):
        return True
    if isinstance(row, Mapping):
        return bool({"bytes", "path", "array"} & set(row)) and not (
            row.get("bytes") is not None or row.get("path") or row.get("array") is not None
        )
    return type(row).__name__ in ("NAType", "NaTType")


def is_blank(row: Any) -> bool:
    """Return whether a cell is an empty text; as a path it would name its own folder."""
    return isinstance(row, str) and not row.strip()


def is_pil(row: Any) -> bool:
    """Return whether `row` is a PIL image, without importing PIL."""
    return any(kind.__module__.startswith("PIL.") for kind in type(row).__mro__)


def is_tensor(value: Any) -> bool:
    """Return whether `value` is a torch tensor (or behaves as one), without importing torch."""
    return callable(getattr(value, "detach", None)) and hasattr(value, "requires_grad")


def as_array(value: Any) -> NDArray[Any]:
    """Return an array of anything array-like: a tensor of any device, gradient or bfloat16 too."""
    if is_tensor(value):
        value = value.detach().cpu()
        # numpy has no bfloat16; float32 holds every one of its values.
        return np.asarray(value.float() if "bfloat16" in str(value.dtype) else value)
    if isinstance(value, (list, tuple)) and value and is_tensor(value[0]):
        return np.asarray([as_array(part) for part in value])
    return np.asarray(value)


def kind_of(row: Any, *, strings_are_paths: bool = False, media: str | None = None) -> str | None:
    """Return "text", "image", "audio" or "embedding"; None for a missing value.

    What a file holds is `media`, where that is known; else its name or first bytes tell.

    Raises
    ------
    DataError
        A type that is none of these.
    """
    if is_missing(row) or (strings_are_paths and is_blank(row)):
        return None
    if isinstance(row, str) and not strings_are_paths:
        return "text"
    if is_pil(row):
        return "image"
    if is_recording(row):
        return "audio"
    if isinstance(row, (str, bytes, bytearray, os.PathLike)) or (
        isinstance(row, Mapping) and {"bytes", "path"} & set(row)
    ):
        return media or media_of_row(row)
    if isinstance(row, np.ndarray) and row.dtype == np.uint8 and row.ndim in (2, 3):
        return "image"
    if is_tensor(row) or (
        isinstance(row, (np.ndarray, list, tuple)) and np.asarray(row).dtype.kind in "fiub"
    ):
        return "embedding"
    raise DataError(
        f"a row of type {type(row).__name__} ({str(row)[:40]!r}) is no text, image, recording or "
        "vector"
    )


def media_of_text(row: Any) -> str | None:
    """Return "image" or "audio" where a string ends as a file name of one does."""
    if not isinstance(row, str) or "\n" in row or "\0" in row:
        return None
    return media_of_name(row)


def media_of_rows(first: list[Any]) -> str:
    """Return "image" or "audio" by the first of some rows whose name or bytes tell."""
    named = [row for row in first if not isinstance(row, str) or media_of_text(row)]
    return media_of_row(named[0]) if named else "image"


def is_written_vector(row: Any) -> bool:
    """Return whether a text is a vector written out."""
    return isinstance(row, str) and _WRITTEN.fullmatch(row) is not None


def is_file(path: str, base: Path | None) -> bool:
    """Return whether there is such a file."""
    try:
        return resolve_path(path, base).is_file()
    except (OSError, ValueError):
        return False


def resolve_path(path: str | os.PathLike[str], base: Path | None) -> Path:
    """Return `path`, taken from `base` where it is relative."""
    return (base / path) if base is not None else Path(path)


def path_in_row(path: str, base: Path | None) -> Path:
    """Return the path that a ``{"path": ...}`` row of a file names, below `base`.

    Rows in memory have no base: their paths are the caller's own.

    Raises
    ------
    UnreadableRow
        It is absolute or climbs: somebody else's file must not choose what is read here.
    """
    if base is None:
        return Path(path)
    # Either system's notation counts: a file may come from the other one.
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive
    if absolute or ".." in PurePosixPath(path.replace("\\", "/")).parts:
        raise UnreadableRow(
            f"the row names the file {path!r}, outside its data's own folder: store the bytes "
            "in the row, or pass the paths as a list to read them all the same"
        )
    return base / path


def unloaded(image: Image) -> Image:
    """Open an image once more that was opened by name and never read.

    Reading the given one would keep its pixels in the caller's list for good.
    """
    name = getattr(image, "filename", None)
    state = image.__dict__
    if not name or state.get("_im", state.get("im")) is not None or not os.path.isfile(name):
        return image
    return open_image(read_regular(name))


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
    if not row.isascii() and (lone := _SURROGATE.search(row)):
        raise UnreadableRow(
            f"the text holds half a character, {lone[0]!r} (a lone surrogate): write it anew"
        )
    return str(row)


def read_image(row: Any, base: Path | None = None) -> Image:
    """Return a loaded RGB image by the one rule of `fmcluster.embedding.data.images`.

    Raises
    ------
    UnreadableRow
        Missing, not an image of a safe format, truncated, no regular file, a path outside the
        data's folder, or above PIL's limit of pixels (a decompression bomb).
    """
    from PIL import Image

    if is_missing(row):
        raise UnreadableRow("the image is missing")
    if isinstance(row, DamagedBytes):
        raise UnreadableRow(f"the image cannot be read: {row.decode('utf-8')}")
    try:
        if isinstance(row, np.ndarray):
            return to_rgb(row)
        image = _opened(row, base)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise UnreadableRow(
                f"the image has {image.width} x {image.height} pixels, more than the limit of "
                f"{limit} (PIL.Image.MAX_IMAGE_PIXELS)"
            )
        image.load()
        return to_rgb(image)
    except UnreadableRow:
        raise
    except Exception as error:
        # A damaged file can raise anything out of PIL's decoders; all of it means this one thing.
        said = ADDRESS.sub("", str(error)).strip()
        raise UnreadableRow(f"the image cannot be read: {said}") from None


def _opened(row: Any, base: Path | None) -> Image:
    if is_pil(row):
        return unloaded(row)
    row = _bytes_or_path(row, base)
    # Read whole: an image opened by name would keep its file handle.
    return open_image(read_regular(row) if isinstance(row, os.PathLike) else row)


def _bytes_or_path(row: Any, base: Path | None) -> Any:
    """Return the bytes of the file that a row holds, or the file that it names."""
    if isinstance(row, Mapping):
        return row["bytes"] if row.get("bytes") is not None else path_in_row(row["path"], base)
    if is_blank(row):
        raise UnreadableRow("it is empty and names no file")
    return resolve_path(row, base) if isinstance(row, (str, os.PathLike)) else row


def read_audio(row: Any, base: Path | None = None) -> Sound:
    """Return a decoded recording by the one rule of `fmcluster.embedding.data.audio`.

    Raises
    ------
    UnreadableRow
        Missing, not a recording of a known format, damaged or cut short, empty, hours long, no
        regular file, or a path outside the data's folder.
    MissingExtraError
        The packages that read audio are not installed.
    """
    if is_missing(row):
        raise UnreadableRow("the audio is missing")
    if isinstance(row, DamagedBytes):
        raise UnreadableRow(f"the recording cannot be read: {row.decode('utf-8')}")
    try:
        if is_recording(row):
            return to_sound(row)
        found = _bytes_or_path(row, base)
        return decode_audio(read_regular(found) if isinstance(found, os.PathLike) else found)
    except (UnreadableAudio, OSError, ValueError) as error:
        raise UnreadableRow(f"the recording cannot be read: {error}") from None


def decoded_bytes(row: Any, base: Path | None = None, *, media: str = "image") -> int:
    """Return how many bytes a row takes as RGB or samples, by its header; 0 where none is read."""
    if is_missing(row):
        return 0
    if media == "audio":
        return _sound_bytes(row, base)
    if isinstance(row, np.ndarray):
        return 3 * row.shape[0] * row.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too many pixels: decoding says it by the row
        try:
            if is_pil(row):
                return int(3 * row.width * row.height)
            with _opened_file(row, base) as content:
                image = open_image(content)
                return int(3 * image.width * image.height)
        except Exception:  # as in `read_image`; it will name the row
            return 0


def _sound_bytes(row: Any, base: Path | None) -> int:
    try:
        if is_recording(row):
            return 4 * len(to_sound(row).samples)
        with _opened_file(row, base) as content:
            return audio_bytes(content)
    except (UnreadableRow, UnreadableAudio, OSError, ValueError):
        return 0


@contextlib.contextmanager
def _opened_file(row: Any, base: Path | None) -> Iterator[Any]:
    """Give the bytes of the file that a row holds, or the file that it names, open."""
    found = _bytes_or_path(row, base)
    if isinstance(found, os.PathLike):
        with open_regular(found) as handle:
            yield handle
    else:
        yield found


def file_of(row: Any, base: Path | None, *, strings_are_paths: bool = False) -> Path | None:
    """Return the file that a row names; None where it names none that may be read."""
    if is_recording(row):
        return None
    named = isinstance(row, os.PathLike) or (strings_are_paths and isinstance(row, str))
    if is_missing(row) or not (named or (isinstance(row, Mapping) and row.get("bytes") is None)):
        return None
    try:
        return Path(_bytes_or_path(row, base))
    except UnreadableRow:
        return None
