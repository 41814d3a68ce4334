"""Each family of image encoders, tiny and with random weights, against transformers itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.base import Run
from fmcluster.embedding.encoders.images.poolings import (
    FAMILIES,
    POOLINGS,
    choose_pooling,
)
from fmcluster.embedding.encoders.vision import VisionEncoder


def first(output):
    return output.last_hidden_state[:, 0]


def projected(model, batch):
    return model.get_image_features(**batch).pooler_output


def own(model, batch):
    return model(**batch).pooler_output


def patches(skip):
    return lambda model, batch: model(**batch).last_hidden_state[:, skip:].mean(dim=1)


# What a family gives by default, said by its own library.
DEFAULTS = {
    "dinov2": ("cls", own),  # its pooled output is the CLS state
    "dinov2_with_registers": ("cls", own),
    "dinov3_vit": ("cls", own),
    "dinov3_convnext": ("pooler", own),
    "vit": ("cls", lambda model, batch: first(model(**batch))),
    "deit": ("cls", lambda model, batch: first(model(**batch))),
    "ijepa": ("mean", patches(0)),
    "clip": ("projection", projected),
    "clip_vision_model": ("pooler", own),
    "metaclip_2": ("projection", projected),
    "siglip": ("pooler", projected),
    "siglip2": ("pooler", projected),
    "aimv2": ("projection", projected),
    "aimv2_vision_model": ("mean", patches(0)),
    "swin": ("pooler", own),
    "convnext": ("pooler", own),
}
# Another pooling than the default, by its definition.
CHOSEN = {
    ("dinov2", "mean"): patches(1),
    ("dinov2_with_registers", "mean"): patches(1 + 3),
    ("dinov3_vit", "mean"): patches(1 + 2),
    ("deit", "mean"): patches(2),
    ("vit", "pooler"): own,
    ("siglip", "attention"): projected,
    ("siglip2", "attention"): projected,
    ("aimv2", "attention"): lambda model, batch: model.vision_model(**batch).pooler_output,
    ("clip", "pooler"): lambda model, batch: model.vision_model(**batch).pooler_output,
    ("siglip", "mean"): lambda m, batch: m.vision_model(**batch).last_hidden_state.mean(dim=1),
    ("metaclip_2", "cls"): lambda model, batch: first(model.vision_model(**batch)),
    ("swin", "mean"): own,
}


def reference(folder, images, call):
    """Return what the library makes of the images, all in one batch."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    batch = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.no_grad():
        return call(model, batch).numpy()


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_default_equals_the_library(
    kind, vision_folder, images, cosine, same_whatever_the_batching
):
    pooling, call = DEFAULTS[kind]
    folder = vision_folder(kind)
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(folder, precision="fp32", batch_size=batch_size), images
    )
    theirs = reference(folder, images, call)
    assert ours.shape == theirs.shape
    assert cosine(ours, theirs) >= 0.9999
    encoder = resolve(folder, precision="fp32")
    assert encoder.fingerprint["pooling"] == pooling
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


@pytest.mark.parametrize(("kind", "pooling"), sorted(CHOSEN))
def test_chosen_pooling_equals_its_definition(kind, pooling, vision_folder, images, cosine):
    folder = vision_folder(kind)
    encoder = resolve({"encoder": str(folder), "pooling": pooling, "precision": "fp32"})
    theirs = reference(folder, images, CHOSEN[kind, pooling])
    assert cosine(encoder.encode(images), theirs) >= 0.9999
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint
    if (kind, pooling) not in [("siglip", "attention"), ("siglip2", "attention")]:
        assert encoder.fingerprint != resolve(folder, precision="fp32").fingerprint


@pytest.mark.parametrize("kind", ["dinov2_with_registers", "dinov3_vit", "clip"])
def test_both_are_the_one_beside_the_other(kind, vision_folder, images):
    folder = vision_folder(kind)
    both, cls, mean = (
        VisionEncoder(folder, pooling=pooling, run=Run(precision="fp32")).encode(images[:9])
        for pooling in ("cls+mean", "cls", "mean")
    )
    np.testing.assert_allclose(both, np.concatenate([cls, mean], axis=1), atol=1e-5)


def test_padding_of_siglip2_is_in_no_mean(vision_folder, images, cosine):
    import torch
    from transformers import AutoImageProcessor, AutoModel

    folder = vision_folder("siglip2")
    wide = [image.resize((16 + 8 * (i % 5), 60)) for i, image in enumerate(images[:20])]
    ours = VisionEncoder(folder, pooling="mean", run=Run(precision="fp32")).encode(wide)
    batch = AutoImageProcessor.from_pretrained(folder)(images=wide, return_tensors="pt")
    seen = batch["pixel_attention_mask"].bool()
    assert not seen.all()
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).vision_model(**batch).last_hidden_state
    theirs = torch.stack([row[mask].mean(dim=0) for row, mask in zip(states, seen, strict=True)])
    assert cosine(ours, theirs.numpy()) >= 0.9999


def test_an_autoencoder_sees_every_patch(vision_folder, images, cosine):
    """As it is saved it hides three patches in four, at random."""
    import torch
    from transformers import AutoImageProcessor, ViTMAEModel

    folder = vision_folder("vit_mae")
    encoder = VisionEncoder(folder, run=Run(precision="fp32"))
    ours = encoder.encode(images[:9])
    assert cosine(ours, encoder.encode(images[:9])) >= 0.9999
    model = ViTMAEModel.from_pretrained(folder, mask_ratio=0.0).eval()
    batch = AutoImageProcessor.from_pretrained(folder)(images=images[:9], return_tensors="pt")
    with torch.no_grad():
        assert cosine(ours, first(model(**batch)).numpy()) >= 0.9999


def test_the_wrapper_of_timm(tmp_path, images, cosine):
    """What transformers saves of a timm model."""
    import timm
    import torch
    from transformers import AutoImageProcessor, TimmWrapperConfig, TimmWrapperModel

    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False)
    config = TimmWrapperConfig(
        architecture="test_vit", pretrained_cfg=dict(model.pretrained_cfg), num_labels=0
    )
    TimmWrapperModel(config).save_pretrained(tmp_path)
    settings = tmp_path / "config.json"
    assert settings.is_file()
    encoder = VisionEncoder(tmp_path, run=Run(precision="fp32"))
    batch = AutoImageProcessor.from_pretrained(tmp_path)(images[:9], return_tensors="pt")
    with torch.no_grad():
        theirs = TimmWrapperModel.from_pretrained(tmp_path).eval()(**batch).pooler_output
    assert cosine(encoder.encode(images[:9]), theirs.numpy()) >= 0.9999


@pytest.mark.parametrize(
    ("kind", "pooling", "said"),
    [
        ("siglip", "cls", "'siglip' has mean, pooler, attention"),
        ("swin", "cls+mean", "'swin' has mean, pooler$"),
        ("dinov2", "projection", "'dinov2' has cls, mean, cls\\+mean, pooler$"),
        ("convnext", "attention", "'convnext' has mean, pooler"),
        ("aimv2_vision_model", "attention", "has mean$"),
        ("dinov2", "max", "pooling='max' is not known"),
    ],
)
def test_a_pooling_that_a_family_lacks(kind, pooling, said):
    with pytest.raises(ValueError, match=said):
        choose_pooling(kind, {"use_head": False}, pooling)


def test_no_pooled_output(vision_folder, images):
    encoder = VisionEncoder(vision_folder("vit_mae"), pooling="pooler", run=Run(precision="fp32"))
    with pytest.raises(ValueError, match="'vit_mae' has no pooled output"):
        encoder.encode(images[:2])


def test_every_family_is_one_of_transformers():
    from transformers import CONFIG_MAPPING

    assert set(FAMILIES) <= set(CONFIG_MAPPING)
    trunk = choose_pooling("aimv2", {"model_type": "aimv2"}, None)
    assert trunk == "mean", "the authors' own format is the trunk without a text tower"


def test_a_pooling_reaches_the_store_and_its_prediction(vision_folder, images, tmp_path):
    import fmcluster as fmc

    folder = vision_folder("dinov2")
    asked = {"encoder": str(folder), "pooling": "cls+mean"}
    store = fmc.embed(images[:30], encoder=asked, cache_dir=tmp_path)
    assert store.shape == (30, 64)
    [fingerprint] = store.encoders.values()
    assert fingerprint["pooling"] == "cls+mean"
    result = fmc.cluster(store, n_clusters=2, head="kmeans")
    np.testing.assert_array_equal(result.predict(images[:5]), result.labels[:5])
    moved = result.predict(images[:5], encoder=str(folder))
    np.testing.assert_array_equal(moved, result.labels[:5])


def test_the_table_of_the_docs_is_the_code():
    page = Path(__file__).parents[3] / "docs" / "how-to" / "encoders.md"
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 3:
            continue
        named = re.search(r"\(([^)]*`)", cells[0])
        for kind in re.findall(r"`([\w-]+)`", named.group(1)) if named else ():
            if kind in FAMILIES:
                others = {each.strip() for each in cells[2].split(",")}
                found.setdefault(kind, (re.split(r"\W* or ", cells[1])[0], others))
    assert set(found) == set(FAMILIES)
    for kind, (default, others) in found.items():
        config = {"use_head": True, "vision_config": {}}
        assert default == choose_pooling(kind, config, None)
        for pooling in POOLINGS:
            if pooling in others | {default}:
                choose_pooling(kind, config, pooling)
            else:
                with pytest.raises(ValueError, match="has"):
                    choose_pooling(kind, config, pooling)
