from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fmcluster.embedding.encoders.augment import augment, augment_fingerprint


def as_bytes(rows):
    return [row if isinstance(row, str) else (row.mode, row.size, row.tobytes()) for row in rows]


@pytest.fixture
def rows(images, texts):
    return {"image": images[:12], "text": texts[:12]}


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_same_bytes_whatever_the_batching(modality, strength, rows):
    data = rows[modality]
    before = as_bytes(data)
    whole = as_bytes(augment(data, modality, strength=strength, seed=3))
    parts = []
    for start in range(0, 12, 5):
        part = data[start : start + 5]
        parts += augment(part, modality, strength=strength, seed=3, row_offset=start)
    assert as_bytes(parts) == whole
    alone = [
        augment([data[i]], modality, strength=strength, seed=3, row_offset=i)[0]
        for i in reversed(range(12))
    ]
    assert as_bytes(alone[::-1]) == whole
    odd = list(range(1, 12, 2))
    some = augment([data[i] for i in odd], modality, strength=strength, seed=3, row_offset=odd)
    assert as_bytes(some) == [whole[i] for i in odd]
    assert as_bytes(data) == before, "the rows given are left as they are"
    assert sum(a != b for a, b in zip(whole, before, strict=True)) >= 8
    other = as_bytes(augment(data, modality, strength=strength, seed=4))
    assert sum(a != b for a, b in zip(whole, other, strict=True)) >= 8


@pytest.mark.parametrize("modality", ["image", "text"])
def test_equal_rows_get_different_views(modality, rows):
    data = [rows[modality][1]] * 8
    assert len(set(map(str, as_bytes(augment(data, modality, seed=0))))) >= 5


@pytest.mark.parametrize("strength", ["weak", "strong"])
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_any_mode_and_size_becomes_rgb_of_that_size(mode, strength):
    image = Image.new("I;16", (8, 8), 30000) if mode == "I;16" else Image.new(mode, (8, 8))
    out = augment([image, Image.new("RGB", (40, 25))], "image", strength=strength)
    assert [(i.mode, i.size) for i in out] == [("RGB", (8, 8)), ("RGB", (40, 25))]


def test_strong_changes_more_than_weak(images):
    big = [image.resize((48, 48)) for image in images[:20]]

    def moved(strength):
        out = augment(big, "image", strength=strength)
        return np.mean(
            [
                np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()
                for a, b in zip(big, out, strict=True)
            ]
        )

    grey = Image.new("RGB", (48, 48), (200, 200, 200))
    holes = augment([grey] * 10, "image", strength="strong")
    plain = augment([grey] * 10, "image", strength="weak")
    assert all(len(np.unique(np.asarray(i))) <= 3 for i in plain)
    assert sum((np.asarray(i) == 127).mean() > 0.1 for i in holes) >= 8
    assert moved("strong") > 10


def test_torch_stream_is_left_alone(images):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    augment(images[:3], "image", strength="strong")
    assert torch.equal(torch.rand(3), expected)


def test_words_come_from_the_text(texts):
    for strength, share in (("weak", 0.5), ("strong", 0.3)):
        out = augment(texts, "text", strength=strength)
        kept = []
        for new, old in zip(out, texts, strict=True):
            words, source = new.split(), old.split()
            assert words, "never emptied"
            assert not set(words) - set(source)
            kept.append(len(words) / len(source))
        assert share < np.mean(kept) < 1
    assert augment(["word", "", "  "], "text", strength="strong") == ["word", "", "  "]


def test_fingerprint_and_errors(images):
    prints = [
        augment_fingerprint(modality, strength=strength, seed=seed)
        for modality in ("image", "audio", "text")
        for strength in ("weak", "strong")
        for seed in (0, 1)
    ]
    assert len({json.dumps(p, sort_keys=True) for p in prints}) == 12
    with pytest.raises(ValueError, match="augment='wild'"):
        augment(images, "image", strength="wild")
    with pytest.raises(ValueError, match="2 row numbers for 1 rows"):
        augment(["a b"], "text", row_offset=[1, 2])
    with pytest.raises(ValueError, match="modality='video'"):
        augment(images, "video")
    with pytest.raises(TypeError, match="needs recordings, got Image"):
        augment(images, "audio")
    with pytest.raises(TypeError, match="needs strings"):
        augment(images[:1], "text")
    with pytest.raises(TypeError, match="PIL images"):
        augment(["text"], "image")
