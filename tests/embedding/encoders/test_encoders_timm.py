"""timm's models, by name, by folder and by checkpoint, against timm itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.images import timm as ours
from fmcluster.utils.errors import EncoderUnavailableError

timm = pytest.importorskip("timm")
# Small ones of each family: architecture and what makes it tiny; none takes all of its own.
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 16}
MODELS = {
    "plain ViT": ("test_vit", {}),
    "attention pool": ("test_vit3", {}),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", TINY),
    "DINOv3": ("vit_small_patch16_dinov3", TINY),
    "SigLIP": ("vit_base_patch16_siglip_224", TINY),
    "CLIP": ("vit_base_patch32_clip_224", TINY),
    "AIMv2": ("aimv2_large_patch14_224", TINY),
    "Perception Encoder": ("vit_pe_core_tiny_patch16_384", TINY),
    "Perception Encoder, spatial": ("vit_pe_spatial_tiny_patch16_512", TINY),
    "ConvNeXt": ("test_convnext", {}),
    "EfficientNet": ("test_efficientnet", {}),
    "Swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2), "img_size": 32, "window_size": 4},
    ),
    "MobileCLIP's tower": ("fastvit_mci0", {"embed_dims": (8, 8, 8, 32), "layers": (1, 1, 1, 1)}),
}


def random_all_over(model):
    """Fresh weights are often zero, or too small to tell images apart."""
    import torch

    for value in model.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)
        else:
            torch.nn.init.normal_(value, mean=0.5, std=0.5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Make a tiny model of a family, saved as timm saves it for the Hub."""
    import torch

    made = {}

    def make(family):
        if family not in made:
            arch, args = MODELS[family]
            torch.manual_seed(0)
            model = timm.create_model(arch, pretrained=False, num_classes=5, **args).eval()
            random_all_over(model)
            folder = tmp_path_factory.mktemp("timm")
            timm.models.save_for_hf(model, folder, model_args=args, safe_serialization=True)
            made[family] = folder
        return made[family]

    return make


def theirs(folder, images, call=None):
    """Return what timm makes of the images."""
    import torch

    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    settings = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**settings, is_training=False)
    with torch.no_grad():
        pixels = torch.stack([transform(image.convert("RGB")) for image in images])
        return (call or (lambda model, pixels: model(pixels)))(model, pixels).numpy()


@pytest.mark.parametrize("family", sorted(MODELS))
def test_equals_timm(family, saved, images, cosine, same_whatever_the_batching):
    folder = saved(family)
    found = same_whatever_the_batching(
        lambda batch_size: resolve(folder, precision="fp32", batch_size=batch_size), images[:65]
    )
    reference = theirs(folder, images[:65])
    assert found.shape == reference.shape
    assert cosine(found, reference) >= 0.9999
    encoder = resolve(folder, precision="fp32")
    again = resolve(json.loads(json.dumps(encoder.spec)))
    assert again.fingerprint == encoder.fingerprint


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean"])
def test_poolings_of_tokens(pooling, saved, images, cosine):
    import torch

    folder = saved("DINOv2 with registers")
    encoder = resolve({"encoder": str(folder), "pooling": pooling, "precision": "fp32"})

    def call(model, pixels):
        states = model.forward_features(pixels)
        both = states[:, 0], states[:, 5:].mean(dim=1)
        return {"cls": both[0], "mean": both[1], "cls+mean": torch.cat(both, dim=1)}[pooling]

    assert cosine(encoder.encode(images[:9]), theirs(folder, images[:9], call)) >= 0.9999
    assert encoder.fingerprint["pooling"] == pooling
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


def test_its_own_pooling_is_named(saved):
    named = {family: resolve(saved(family)).fingerprint["pooling"] for family in MODELS}
    assert named["DINOv2 with registers"] == "pooler, token"
    assert named["SigLIP"] == named["Perception Encoder"] == "pooler, map"
    attention = {"encoder": str(saved("SigLIP")), "pooling": "attention"}
    assert resolve(attention).fingerprint["pooling"] == "pooler, map"


@pytest.mark.parametrize(
    ("family", "pooling", "said"),
    [
        ("SigLIP", "cls", "has pooler, mean, attention"),
        ("ConvNeXt", "mean", "ConvNeXt has pooler$"),
        ("DINOv3", "attention", "has pooler, cls, mean, cls\\+mean"),
        ("DINOv3", "projection", "not known"),
    ],
)
def test_a_pooling_that_a_model_lacks(family, pooling, said, saved):
    with pytest.raises(ValueError, match=said):
        resolve({"encoder": str(saved(family)), "pooling": pooling})


def test_a_checkpoint_by_architecture(saved, images, cosine):
    folder = saved("plain ViT")
    name = f"timm:test_vit/{folder / 'model.safetensors'}"
    encoder = resolve(name, precision="fp32")
    assert cosine(encoder.encode(images[:9]), theirs(folder, images[:9])) >= 0.9999
    assert str(folder) not in json.dumps(encoder.fingerprint)
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


def test_names_lead_to_the_hub(monkeypatch, saved, images):
    asked = []

    def folder(repo, **options):
        asked.append(repo)
        return saved("DINOv2 with registers"), "0123"

    monkeypatch.setattr(ours.sources, "hub_folder", folder)
    for name in ("vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2"):
        encoder = resolve(f"timm:{name}", precision="fp32")
        assert encoder.spec["encoder"] == "timm/vit_small_patch14_reg4_dinov2.lvd142m"
        assert encoder.fingerprint["revision"] == "0123"
    assert set(asked) == {"timm/vit_small_patch14_reg4_dinov2.lvd142m"}
    assert encoder.encode(images[:2]).shape == (2, 32)


def test_out_of_reach(monkeypatch):
    def fail(*args, **options):
        raise OSError("Name or service not known")

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(EncoderUnavailableError, match="timm/vit_tiny_patch16_224"):
        resolve("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:vit_smal_patch14_dinov2", "did you mean 'vit_small_patch14_dinov2'"),
        ("timm:resnet18.nosuchtag", "of 'resnet18' it has .*resnet18.a1_in1k"),
        ("timm:test_vit/missing.safetensors", "there is no file missing.safetensors"),
    ],
)
def test_names_that_are_none(name, said):
    with pytest.raises(ValueError, match=said) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused_not_random(saved, tmp_path):
    from safetensors.numpy import load_file, save_file

    source = saved("plain ViT")
    weights = load_file(source / "model.safetensors")
    del weights["blocks.0.attn.qkv.weight"]
    save_file(weights, tmp_path / "half.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights of the model .*blocks.0.attn.qkv.weight"):
        resolve(f"timm:test_vit/{tmp_path / 'half.safetensors'}")
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    (tmp_path / "half.safetensors").unlink()
    with pytest.raises(ValueError, match="0 files of weights"):
        resolve(tmp_path)


def test_other_options_are_refused(saved):
    for option in ({"prompt": "a: "}, {"trust_remote_code": True}, {"backend": "onnx"}):
        with pytest.raises(ValueError, match=f"takes no {next(iter(option))}"):
            resolve({"encoder": str(saved("plain ViT")), **option})


def test_a_local_name_is_shown_without_its_folders(saved, tmp_path, images, monkeypatch):
    import fmcluster as fmc

    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    folder = saved("plain ViT")
    name = f"timm:test_vit/{folder / 'model.safetensors'}"
    store = fmc.embed(images[:20], encoder=name, folder=tmp_path / "store")
    result = fmc.cluster(store, n_clusters=2, head="kmeans")
    assert str(folder) not in json.dumps(result.provenance)
    np.testing.assert_array_equal(result.predict(images[:4]), result.labels[:4])
