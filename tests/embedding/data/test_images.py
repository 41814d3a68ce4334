from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fmcluster.embedding.data.images import to_rgb


def pixel(image) -> tuple[int, ...]:
    out = to_rgb(image)
    assert out.mode == "RGB"
    return out.getpixel((0, 0))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3)),
        (Image.new("L", (2, 2), 7), (7, 7, 7)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (1, 2, 3, 255)), (1, 2, 3)),
        (Image.new("RGBA", (2, 2), (1, 2, 3, 0)), (255, 255, 255)),
        (Image.new("LA", (2, 2), (9, 0)), (255, 255, 255)),
        (Image.new("I;16", (2, 2), 65535), (255, 255, 255)),
        (Image.new("I;16", (2, 2), 257 * 40), (40, 40, 40)),
        (Image.new("I", (2, 2), 257 * 40), (40, 40, 40)),
        (Image.new("F", (2, 2), 0.2), (51, 51, 51)),
        (np.full((2, 2), 5, np.uint8), (5, 5, 5)),
        (np.full((2, 2, 1), 5, np.uint8), (5, 5, 5)),
        (np.full((2, 2, 3), 5, np.uint8), (5, 5, 5)),
        (np.full((2, 2, 3), 1.0, np.float32), (255, 255, 255)),
        (np.full((2, 2), 257, np.uint16), (1, 1, 1)),
    ],
)
def test_any_image_becomes_rgb(image, expected):
    assert pixel(image) == expected


def test_palette_with_transparency():
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30])
    assert pixel(image) == (10, 20, 30)
    image.info["transparency"] = 0
    assert pixel(image) == (255, 255, 255)


def test_camera_orientation_is_applied():
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    assert to_rgb(Image.open(stream)).size == (2, 4)


@pytest.mark.parametrize("bad", ["text", None, 3, [1, 2]])
def test_no_image(bad):
    with pytest.raises(TypeError, match="PIL images or arrays"):
        to_rgb(bad)


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (1, 2, 2, 3)])
def test_no_image_array(shape):
    with pytest.raises(TypeError, match="shape"):
        to_rgb(np.zeros(shape, np.uint8))
