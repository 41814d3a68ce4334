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


@pytest.fixture
def model2vec_folder(tmp_path):
    """Make a static model as model2vec saves one: plain, or with weights and a mapping."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    def make(*, packed: bool = False, **config):
        words = "[UNK] how do i sort a list in python the cat dog sat on mat".split()
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        draw = np.random.default_rng(0)
        tensors = {"embeddings": draw.normal(size=(len(words), 8)).astype(np.float32)}
        if packed:
            tensors["embeddings"] = tensors["embeddings"][:6]
            tensors["mapping"] = np.arange(len(words)) % 6
            tensors["weights"] = draw.uniform(size=len(words)).astype(np.float32)
        save_file(tensors, tmp_path / "model.safetensors")
        about = {"model_type": "model2vec", "normalize": True, **config}
        (tmp_path / "config.json").write_text(json.dumps(about))
        return tmp_path

    return make


STATIC = ["how do I sort a list", "the cat zzz sat", "mat", "cat dog " * 400]


@pytest.mark.parametrize("packed", [False, True])
def test_static_folders_equal_model2vec(packed, model2vec_folder, cosine):
    folder = model2vec_folder(packed=packed)
    encoder = resolve(folder, modality="text")
    ours = encoder.encode([*STATIC, "zzz"])
    assert not ours[-1].any(), "nothing is known of it"
    assert encoder.truncated == 1
    encoder.count_truncated(STATIC)
    assert encoder.truncated == 2
    assert resolve(json.loads(json.dumps(encoder.spec))).fingerprint == encoder.fingerprint
    library = pytest.importorskip("model2vec")
    theirs = library.StaticModel.from_pretrained(str(folder)).encode(STATIC)
    assert cosine(ours[:4], theirs) >= 0.9999


def test_static_folders_take_dimensions_and_length(model2vec_folder):
    folder = model2vec_folder()
    short = resolve({"encoder": str(folder), "truncate_dim": 3, "max_length": 2})
    assert short.dim == 3
    np.testing.assert_allclose(*short.encode(["the cat sat", "the cat dog"]), atol=1e-6)
    assert short.truncated == 2
    again = resolve(short.spec)
    assert again.fingerprint == short.fingerprint != resolve(folder).fingerprint
    for bad in ({"prompt": "a: "}, {"long": "chunk-mean"}, {"pooling": "cls"}):
        with pytest.raises(ValueError, match="takes no"):
            resolve({"encoder": str(folder), **bad})


def test_a_static_folder_that_is_damaged(model2vec_folder):
    from safetensors.numpy import save_file

    folder = model2vec_folder()
    save_file({"embeddings": np.ones((3, 8), np.float32)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="do not belong together"):
        resolve(folder)
