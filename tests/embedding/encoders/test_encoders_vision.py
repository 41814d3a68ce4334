from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.base import Run

REFERENCE = {
    "dinov2": lambda m, b: m(**b).pooler_output,
    "dinov3_vit": lambda m, b: m(**b).pooler_output,
    "vit": lambda m, b: m(**b).last_hidden_state[:, 0],
    "clip": lambda m, b: m.get_image_features(**b).pooler_output,
    "siglip": lambda m, b: m.get_image_features(**b).pooler_output,
    "convnext": lambda m, b: m(**b).pooler_output,
}
POOLING = {
    "dinov2": "cls",
    "dinov3_vit": "cls",
    "vit": "cls",
    "clip": "projection",
    "siglip": "pooler",
    "convnext": "pooler",
}


@pytest.mark.parametrize("kind", sorted(REFERENCE))
def test_equals_transformers(kind, vision_folder, images, cosine, same_whatever_the_batching):
    import torch
    from transformers import AutoImageProcessor, AutoModel

    folder = vision_folder(kind)
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(folder, precision="fp32", batch_size=batch_size), images
    )
    model = AutoModel.from_pretrained(folder).eval()
    batch = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.no_grad():
        theirs = REFERENCE[kind](model, batch)
    assert cosine(ours, theirs.numpy()) >= 0.9999
    encoder = resolve(str(folder), modality="image", precision="fp32")
    assert encoder.modality == "image"
    assert encoder.fingerprint["pooling"] == POOLING[kind]
    again = resolve(json.loads(json.dumps(encoder.spec)))
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode(images[:3]), encoder.encode(images[:3]))


def test_bf16_is_close_and_fingerprinted(vision_folder, images, cosine):
    folder = vision_folder("dinov2")
    full, half = (resolve(folder, precision=p) for p in ("fp32", "bf16"))
    assert cosine(full.encode(images), half.encode(images)) >= 0.99
    assert full.fingerprint != half.fingerprint
    assert resolve(half.spec).precision == "bf16"


def test_mean_pooling_leaves_cls_and_registers_out(vision_folder, images, cosine):
    import torch
    from transformers import AutoImageProcessor, AutoModel

    from fmcluster.embedding.encoders.vision import VisionEncoder

    folder = vision_folder("dinov3_vit")
    ours = VisionEncoder(folder, pooling="mean", run=Run(precision="fp32")).encode(images)
    batch = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(**batch).last_hidden_state
    assert states.shape[1] == 1 + 2 + 4
    assert cosine(ours, states[:, 3:].mean(dim=1).numpy()) >= 0.9999
    with pytest.raises(ValueError, match="projection"):
        VisionEncoder(folder, pooling="projection")


def test_frozen_and_left_as_found(vision_folder, images):
    import torch

    encoder = resolve(vision_folder("vit"), precision="fp32")
    before = {k: v.clone() for k, v in encoder.module.state_dict().items()}
    encoder.module.train()
    encoder.encode(images[:5])
    assert encoder.module.training, "the caller's train flag comes back"
    encoder.module.eval()
    encoder.encode(images[:5])
    assert not encoder.module.training
    assert all(torch.equal(before[k], v) for k, v in encoder.module.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in encoder.module.parameters())


def test_fingerprint_follows_weights_and_preprocessing_not_place_or_batch(vision_folder, tmp_path):
    folder = vision_folder("dinov2")
    base = resolve(folder, precision="fp32").fingerprint
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert resolve(copy, precision="fp32", batch_size=3, device="cpu").fingerprint == base
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.1, 0.2, 0.3]
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    other = resolve(copy, precision="fp32").fingerprint
    assert other["preprocessing"] != base["preprocessing"]
    json.dumps(base)


def test_missing_weights_are_refused_not_random(vision_folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    copy = tmp_path / "half"
    shutil.copytree(vision_folder("dinov2"), copy)
    weights = load_file(copy / "model.safetensors")
    gone = next(key for key in weights if "attention" in key)
    del weights[gone]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights"):
        resolve(copy)


def test_text_given_to_an_image_encoder(vision_folder):
    with pytest.raises(TypeError, match="PIL images"):
        resolve(vision_folder("vit")).encode(["a text"])
    with pytest.raises(ValueError, match="takes images, the data are texts"):
        resolve(vision_folder("vit"), modality="text")
