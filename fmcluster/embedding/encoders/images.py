"""Any PIL image or array to 8-bit RGB, one way for every image encoder and augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

RGB_RULE = "rgb8;alpha-over-white;16bit/257;exif-transposed"


def to_rgb(row: Any) -> Image.Image:
    """Return `row` as an RGB image.

    Transparency is laid over white, 16-bit and 32-bit greys are scaled to 8 bits, floats in
    [0, 1] are stretched to [0, 255], and the camera's orientation tag is applied.

    Parameters
    ----------
    row : PIL.Image.Image or array (h, w) or (h, w, 1 | 3 | 4), uint8, uint16 or float

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
    if row.mode == "RGB" and not row.getexif():
        return row
    image = ImageOps.exif_transpose(row)
    if image.mode.startswith(("I", "F")):
        return _from_array(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    """Return an array of greys, RGB or RGBA as an RGB image."""
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise TypeError(f"an image array must be (h, w) or (h, w, 1|3|4), got shape {array.shape}")
    if array.dtype != np.uint8:
        values = np.nan_to_num(array.astype(np.float64))
        top = values.max(initial=0.0)
        if array.dtype.kind == "f":
            scale = 255.0 if top <= 1.0 else 1.0
        else:
            # PIL opens some 16-bit greys as 32-bit: what passes 255 is on the 16-bit scale.
            scale = 1 / 257 if array.dtype == np.uint16 or top > 255 else 1.0
        array = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return to_rgb(Image.fromarray(array))
