"""Pictures of any kind to 8-bit RGB: the one place where a file is opened and colors are decided.

Everything that becomes an encoder's input passes through `to_rgb`: rows of a `Source`, what is
given to an encoder directly, and what is augmented.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

RGB_RULE = "rgb8;alpha-over-white;16bit/257;exif-transposed"
# What a store of images was read by. An encoder's fingerprint holds `RGB_RULE`; this says more, and
# is compared when a store is taken up, so that one made before rows met the rule is not.
READ_RULE = f"{RGB_RULE};above-16bit-by-maximum;rows"
# Formats that Pillow decodes by itself. Not here: EPS and PostScript (start Ghostscript), WMF and
# EMF (drawn by the system), and containers that hand over to other programs.
FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF"),
    *("HEIF", "ICO", "ICNS", "TGA", "PCX", "SGI", "QOI", "PSD", "DDS", "XBM", "XPM"),
)
# File names that stand for images, and the format that Pillow must know to read them.
SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".jp2", ".j2k"), "JPEG2000"),
    **dict.fromkeys((".avif",), "AVIF"),
    **dict.fromkeys((".heic", ".heif"), "HEIF"),
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
}
IMAGE_SUFFIXES = frozenset(SUFFIXES)
# 65,535 = 257 * 255: the largest 16-bit value becomes the largest 8-bit one exactly.
_SIXTEEN_BIT = 257


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that the installed Pillow can read."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of `SUFFIXES` whose files the installed Pillow can read."""
    known = readable_formats()
    return frozenset(suffix for suffix, name in SUFFIXES.items() if name in known)


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Raises
    ------
    OSError
        It cannot be read, or is a pipe, a device or a folder: these may never end.
    """
    # A pipe without a writer would block in open() itself; Windows has neither flag nor pipe.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with open(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{os.fspath(path)!r} is no regular file")
        yield handle


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file; errors as of `open_regular`."""
    with open_regular(path) as handle:
        return handle.read()


_BINARY = getattr(os, "O_BINARY", 0)


def open_image(content: bytes | BinaryIO) -> Image.Image:
    """Open an encoded image as one of the formats that are known to be safe; none is decoded."""
    from PIL import Image

    opened = io.BytesIO(content) if isinstance(content, (bytes, bytearray)) else content
    return Image.open(opened, formats=readable_formats())


def to_rgb(row: Any) -> Image.Image:
    """Return `row` as an RGB image.

    Transparency is laid over white; 16-bit greys are divided by 257, floats in [0, 1] multiplied
    by 255, and what passes 16 bits is scaled by its own maximum; the camera's orientation tag is
    applied.

    Parameters
    ----------
    row : PIL.Image.Image or array (h, w) or (h, w, 1 | 3 | 4), of integers, bools or floats

    Raises
    ------
    TypeError
        Neither an image nor such an array.
    """
    from PIL import Image, ImageOps

    if isinstance(row, np.ndarray):
        return _from_array(row)
    if not isinstance(row, Image.Image):
        raise TypeError(
            f"an image encoder needs PIL images or arrays, got {type(row).__name__}: "
            "open the file first, or choose a text encoder"
        )
    if row.mode == "RGB" and "transparency" not in row.info and not row.getexif():
        return row
    image = ImageOps.exif_transpose(row)
    if image.mode.startswith(("I", "F")):
        return _from_array(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_array(array: NDArray[Any]) -> Image.Image:
    """Return an array of greys, RGB or RGBA as an RGB image."""
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise TypeError(f"an image array must be (h, w) or (h, w, 1|3|4), got shape {array.shape}")
    if array.dtype != np.uint8:
        values = np.nan_to_num(array.astype(np.float64))
        array = np.clip(np.rint(values * _scale(array, values)), 0, 255).astype(np.uint8)
    return to_rgb(Image.fromarray(array))


def _scale(array: NDArray[Any], values: NDArray[np.float64]) -> float:
    """Return what brings an array's values to 0..255: by its type, else by what they reach."""
    top = float(values.max(initial=0.0))
    if array.dtype == bool or (array.dtype.kind == "f" and top <= 1.0):
        return 255.0
    if array.dtype == np.uint16:
        return 1 / _SIXTEEN_BIT
    if top <= 255:
        return 1.0
    # PIL opens some 16-bit greys as 32-bit: what passes 255 is on the 16-bit scale.
    return 1 / _SIXTEEN_BIT if top <= 255 * _SIXTEEN_BIT else 255 / top
