from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.utils.errors import EncoderUnavailableError


def test_equals_open_clip(clip_arch, images, cosine, same_whatever_the_batching):
    import open_clip
    import torch

    arch, checkpoint = clip_arch
    name = f"open_clip:{arch}/{checkpoint}"
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(name, precision="fp32", batch_size=batch_size), images
    )
    model, _, preprocess = open_clip.create_model_and_transforms(arch, pretrained=str(checkpoint))
    model.eval()
    with torch.no_grad():
        theirs = model.encode_image(torch.stack([preprocess(i) for i in images]))
        words = model.encode_text(open_clip.get_tokenizer(arch)(["a cat", "a dog"]), normalize=True)
    assert cosine(ours, theirs.numpy()) >= 0.9999
    encoder = resolve(name, precision="fp32")
    np.testing.assert_allclose(encoder.encode_text(["a cat", "a dog"]), words.numpy(), atol=1e-5)
    assert encoder.fingerprint["pooling"] == "projection"
    assert str(checkpoint.parent) not in json.dumps(encoder.fingerprint)
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


def test_local_folder(clip_arch, images, tmp_path, cosine):
    import open_clip
    import torch
    from safetensors.torch import save_file

    arch, checkpoint = clip_arch
    config = {"model_cfg": open_clip.get_model_config(arch), "preprocess_cfg": {"mean": [0.1] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no weights"):
        resolve(tmp_path)
    state = torch.load(checkpoint, weights_only=True)
    save_file(
        {k: v.contiguous() for k, v in state.items()}, tmp_path / "open_clip_model.safetensors"
    )
    encoder = resolve(tmp_path, precision="fp32")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    with torch.no_grad():
        theirs = model.eval().encode_image(torch.stack([preprocess(i) for i in images[:8]]))
    assert cosine(encoder.encode(images[:8]), theirs.numpy()) >= 0.9999
    other = resolve(f"open_clip:{arch}/{checkpoint}", precision="fp32")
    assert other.fingerprint["preprocessing"] != encoder.fingerprint["preprocessing"]


def test_unknown_names_say_what_there_is(clip_arch):
    with pytest.raises(ValueError, match="did you mean 'ViT-B-32'"):
        resolve("open_clip:ViT-B-3/openai")
    with pytest.raises(ValueError, match="laion2b_s34b_b79k"):
        resolve("open_clip:ViT-B-32/nosuchtag")
    with pytest.raises(ValueError, match="its tags are none"):
        resolve(f"open_clip:{clip_arch[0]}/missing.pt")


def test_weights_out_of_reach(monkeypatch):
    import open_clip

    def fail(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(EncoderUnavailableError, match="packaged:efficientnet-lite2"):
        resolve("open_clip:ViT-B-32/laion2b_s34b_b79k")


def test_quick_gelu_follows_the_tag(caplog):
    import open_clip

    from fmcluster.embedding.encoders.open_clip import _quick_gelu

    openai = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    laion = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
    with caplog.at_level(logging.WARNING):
        assert _quick_gelu(open_clip, "ViT-B-32", openai) is True
    assert "quick GELU" in caplog.text
    assert _quick_gelu(open_clip, "ViT-B-32", laion) is False
    with pytest.raises(ValueError, match="ask for 'ViT-B-32'"):
        _quick_gelu(open_clip, "ViT-B-32-quickgelu", laion)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert _quick_gelu(open_clip, "ViT-B-32", None) is False
    assert "ViT-B-32-quickgelu" in caplog.text


@pytest.mark.parametrize(("arch", "side"), [("MobileCLIP2-S0", 64), ("PE-Core-T-16-384", 384)])
def test_towers_of_timm_equal_open_clip(
    arch, side, images, tmp_path, cosine, same_whatever_the_batching
):
    """MobileCLIP and the Perception Encoder as open_clip builds them: no tiny ones, so few rows."""
    images = images[:4]
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config(arch)
    config["vision_cfg"]["image_size"] = side
    config["text_cfg"] |= {"width": 16, "heads": 2, "layers": 1}
    about = {"model_cfg": config, "preprocess_cfg": {"mean": [0.0] * 3, "std": [1.0] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(about))
    torch.manual_seed(0)
    made = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    for value in made.visual.parameters():
        if arch.startswith("PE") and value.ndim > 1:  # too small, fresh, to tell images apart
            torch.nn.init.kaiming_normal_(value)
    state = {key: value.contiguous().clone() for key, value in made.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(tmp_path, precision="fp32", batch_size=batch_size), images
    )
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    with torch.no_grad():
        theirs = model.eval().encode_image(torch.stack([preprocess(i) for i in images]))
    assert cosine(ours, theirs.numpy()) >= 0.9999


def test_the_projection_is_its_one_pooling(clip_arch):
    arch, checkpoint = clip_arch
    name = f"open_clip:{arch}/{checkpoint}"
    asked = resolve({"encoder": name, "pooling": "projection"}, precision="fp32")
    assert asked.fingerprint == resolve(name, precision="fp32").fingerprint
    with pytest.raises(ValueError, match="takes no pooling"):
        resolve({"encoder": name, "pooling": "mean"})
