from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.texts import static
from fmcluster.utils.errors import MissingExtraError

ODD = [
    "How do I sort a list?",
    "  two  spaces,  at ends too ",
    "a <s> tag </s> and <unk>",
    "tab\tand\nnewline",
    "naïve café Straße 東京 😀 \u2581mark",
    "C# or .NET?",
    "x",
    "a " * 3000,
    "word\u00a0no-break",
]
# What these inputs gave when the encoder was first checked against its package.
GOLDEN = [[-0.09652, 0.00618, 0.00587], [-0.08155, -0.02942, 0.02312]]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("wordllama")
    return resolve("packaged:wordllama", modality="text")


@pytest.fixture(scope="module")
def reference():
    """The package's own inference on its own files; its loader looks for one of them elsewhere."""
    package = pytest.importorskip("wordllama.inference")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = static.wordllama_folder()
    return package.WordLlamaInference(
        load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"],
        Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")),
    )


def test_equals_the_package(encoder, reference, texts, cosine):
    rows = ODD + texts
    ours, theirs = encoder.encode(rows), reference.embed(rows, norm=True)
    assert ours.shape == (len(rows), 256)
    assert ours.dtype == np.float32
    assert cosine(ours, theirs) >= 0.99999
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for size in (1, 7, 64):
        parts = [encoder.encode(rows[low : low + size]) for low in range(0, len(rows), size)]
        np.testing.assert_allclose(np.concatenate(parts), ours, atol=1e-6)


def test_leading_dimensions(encoder, reference, cosine):
    whole, short = reference.embed(ODD), resolve("packaged:wordllama@64")
    assert short.dim == 64
    assert cosine(short.encode(ODD), whole[:, :64]) >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(short.encode(ODD), axis=1), 1, atol=1e-5)
    assert short.fingerprint != encoder.fingerprint
    assert json.dumps(short.fingerprint)
    again = resolve(json.loads(json.dumps(short.spec)))
    assert again.fingerprint == short.fingerprint
    assert again.dim == 64


def test_golden_values_and_what_has_no_direction(encoder):
    np.testing.assert_allclose(encoder.encode(["sort a list", "the cat"])[:, :3], GOLDEN, atol=2e-5)
    assert not encoder.encode([""]).any()
    assert encoder.encode([]).shape == (0, 256)
    assert (encoder.dim, encoder.modality) == (256, "text")
    assert "truncate_dim" not in encoder.fingerprint
    with pytest.raises(TypeError, match="row 1 is int"):
        encoder.encode(["a", 3])


def test_words_one_by_one_give_the_tokens_of_the_text(encoder, texts):
    """The fast way is exact, or it is not taken."""
    assert encoder._splits
    plain = resolve("packaged:wordllama")
    plain._splits = False
    np.testing.assert_allclose(encoder.encode(ODD + texts), plain.encode(ODD + texts), atol=1e-6)


def test_the_package_is_not_imported():
    """Its loader reaches for the network, and its import sets up logging."""
    if static.wordllama_folder() is None:
        pytest.skip("wordllama is not installed")
    code = (
        "import sys; from fmcluster.embedding.encoders import resolve; "
        "resolve('packaged:wordllama').encode(['a text']); "
        "print('wordllama' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("packaged:wordllama@big", "dimensions 'big'"),
        ("packaged:wordllama@0", "keep 1 to 256"),
        ("packaged:wordllama@300", "has 256 dimensions"),
    ],
)
def test_dimensions_that_are_none(name, said, encoder):
    with pytest.raises(ValueError, match=said):
        resolve(name)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(MissingExtraError, match=r"fmcluster\[packaged\]"):
        resolve("packaged:wordllama")


@pytest.mark.realdata
def test_titles_cluster_well(encoder, shared_dir):
    pd = pytest.importorskip("pandas")
    from sklearn.cluster import KMeans

    from fmcluster.functional.metrics import evaluate

    y = np.load(shared_dir / "embeddings" / "stackoverflow.npz")["y"]
    rows = np.random.default_rng(0).permutation(len(y))[:2000]
    titles = pd.read_parquet(shared_dir / "data" / "stackoverflow.parquet")["text"][rows]
    found = KMeans(20, n_init=1, random_state=0).fit_predict(encoder.encode(titles.tolist()))
    assert evaluate(y[rows], found)["acc"] > 0.65
