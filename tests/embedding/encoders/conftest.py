from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] how do i sort a list in python the cat dog sat on mat why is "
    "my loop slow c open file read write java class error ##s ##ing ##ed"
).split()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images():
    draw = np.random.default_rng(0)
    sizes = [(20 + i % 7, 24 + i % 5) for i in range(70)]
    return [Image.fromarray(draw.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]


@pytest.fixture(scope="session")
def texts():
    draw = np.random.default_rng(0)
    plain = [word for word in WORDS[5:] if not word.startswith("#")]
    return [" ".join(draw.choice(plain, size=int(draw.integers(1, 30)))) for _ in range(70)]


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory) -> Path:
    """A tiny BERT with its tokenizer, as save_pretrained leaves them."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_folder(bert_folder, tmp_path_factory):
    """Make a sentence-transformers folder of Transformer, Pooling and what is asked for."""
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules as m

    def make(pooling: str, *, normalise: bool = True, dense: bool = False, **pool):
        body = m.Transformer(str(bert_folder), max_seq_length=16)
        parts = [body, m.Pooling(32, pooling, **pool)]
        parts += [m.Dense(32, 12)] if dense else []
        parts += [m.Normalize()] if normalise else []
        folder = tmp_path_factory.mktemp("sentence")
        st.SentenceTransformer(modules=parts, device="cpu").save(str(folder))
        return folder

    return make


@pytest.fixture(scope="session")
def sentence_transformer():
    """The reference. Not imported by the files: each process of a suite reads all of them first."""
    return pytest.importorskip("sentence_transformers").SentenceTransformer


BODY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 16,
    "initializer_range": 0.5,
}
SQUARE = {"height": 32, "width": 32}
CROP = {"size": {"shortest_edge": 32}, "crop_size": SQUARE}
# By kind: model and configuration of transformers, its image processor; what the config is made of.
VISION = {
    "dinov2": ("Dinov2Model", "Dinov2Config", "BitImageProcessor", CROP, {}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", "BitImageProcessor", CROP,
        {"num_register_tokens": 3},
    ),
    "dinov3_vit": (
        "DINOv3ViTModel", "DINOv3ViTConfig", "DINOv3ViTImageProcessor", {"size": SQUARE},
        {"num_register_tokens": 2},
    ),
    "vit": ("ViTModel", "ViTConfig", "ViTImageProcessor", {"size": SQUARE}, {}),
    "vit_mae": ("ViTMAEModel", "ViTMAEConfig", "ViTImageProcessor", {"size": SQUARE}, {}),
    "deit": ("DeiTModel", "DeiTConfig", "DeiTImageProcessor", CROP, {}),
    "ijepa": ("IJepaModel", "IJepaConfig", "ViTImageProcessor", {"size": SQUARE}, {}),
    "clip": ("CLIPModel", "CLIPConfig", "CLIPImageProcessor", CROP, None),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionConfig", "CLIPImageProcessor", CROP, {}),
    "metaclip_2": ("MetaClip2Model", "MetaClip2Config", "CLIPImageProcessor", CROP, None),
    "siglip": ("SiglipModel", "SiglipConfig", "SiglipImageProcessor", {"size": SQUARE}, None),
    "siglip2": (
        "Siglip2Model", "Siglip2Config", "Siglip2ImageProcessor",
        {"patch_size": 16, "max_num_patches": 8}, None,
    ),
    "aimv2": ("Aimv2Model", "Aimv2Config", "CLIPImageProcessor", CROP, None),
    "aimv2_vision_model": (
        "Aimv2VisionModel", "Aimv2VisionConfig", "CLIPImageProcessor", CROP, {"use_head": False},
    ),
    "swin": (
        "SwinModel", "SwinConfig", "ViTImageProcessor", {"size": SQUARE},
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "patch_size": 4, "window_size": 4},
    ),
    "convnext": (
        "ConvNextModel", "ConvNextConfig", "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}},
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    ),
    "dinov3_convnext": (
        "DINOv3ConvNextModel", "DINOv3ConvNextConfig", "DINOv3ViTImageProcessor", {"size": SQUARE},
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    ),
}  # fmt: skip


def vision_model(kind: str):
    """Return a tiny random model of a family, and its image processor."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    model, config, processor, settings, own = VISION[kind]
    maps = {key: BODY[key] for key in ("image_size", "initializer_range")}
    body = {**(maps if kind == "swin" or "convnext" in kind else BODY), **(own or {})}
    if kind == "siglip2":
        body = {**{k: v for k, v in body.items() if k != "image_size"}, "num_patches": 16}
    if own is None:
        text = {key: BODY[key] for key in list(BODY)[:4]}
        ids = {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        body = {"vision_config": body, "text_config": {**text, **ids}}
        if "siglip" not in kind:
            body["projection_dim"] = 24
    made = getattr(t, model)(getattr(t, config)(**body))
    return made.eval(), getattr(t, processor)(**settings)


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory):
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            model, processor = vision_model(kind)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture(scope="session")
def clip_arch(tmp_path_factory):
    """A tiny open_clip architecture, registered, and a checkpoint of it: (name, path)."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "patch_size": 16,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    file = folder / "tiny-test-clip.json"
    file.write_text(json.dumps(config))
    open_clip.add_model_config(file)
    torch.manual_seed(0)
    checkpoint = folder / "weights.pt"
    torch.save(open_clip.create_model("tiny-test-clip").state_dict(), checkpoint)
    return "tiny-test-clip", checkpoint


@pytest.fixture
def cosine():
    def least(a: np.ndarray, b: np.ndarray) -> float:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return float(((a * b).sum(axis=1) / norms).min())

    return least


@pytest.fixture
def same_whatever_the_batching(cosine):
    """Check batch sizes 1, 7, 64 and reversed order against each other (fp32)."""

    def check(make, rows) -> np.ndarray:
        base = make(batch_size=64).encode(rows)
        assert base.dtype == np.float32
        assert base.shape[0] == len(rows)
        assert np.unique(base.round(4), axis=0).shape[0] > len(rows) // 2, "rows must differ"
        assert cosine(make(batch_size=7).encode(rows), base) >= 0.9999
        assert cosine(make(batch_size=1).encode(rows[:12]), base[:12]) >= 0.9999
        assert cosine(make(batch_size=None).encode(rows[::-1])[::-1], base) >= 0.9999
        return base

    return check
