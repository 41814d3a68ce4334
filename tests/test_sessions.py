"""The six sessions that people should be able to type, on tiny data."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Image
from helpers_text import TOPICS, WordEncoder, topic_texts
from PIL import Image as Picture

import fmcluster as fmc
from fmcluster.cli.main import main


class Colours:
    """Stands for a vision encoder."""

    modality = "image"
    fingerprint = "colours-1"

    def encode(self, rows):
        return np.stack([np.asarray(row.resize((2, 2)), np.float32).reshape(-1) for row in rows])


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))


def test_1_numpy_features(blobs):
    np.save("features.npy", blobs(300, 5)[0])

    from fmcluster.heads import SeLaHead

    X = np.load("features.npy")
    head = SeLaHead(n_clusters=5, epochs=5, random_state=0).fit(X)
    assert head.labels_.dtype == np.int64
    assert set(head.labels_) == set(range(head.n_clusters_))
    assert head.cluster_prior_.sum() == pytest.approx(1)
    proba = head.predict_proba(X[:10])
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    head.save_pretrained("my-head")
    assert {path.name for path in Path("my-head").iterdir()} == {
        "config.json", "model.safetensors",
    }  # fmt: skip
    np.testing.assert_array_equal(fmc.load_head("my-head").predict(X), head.labels_)


def test_2_a_dataset_of_images(monkeypatch):
    draw = np.random.default_rng(0)
    pixels = [
        draw.integers(0, 60, (8, 8, 3)) + 190 * np.eye(3, dtype=int)[i % 3] for i in range(90)
    ]
    images = [Picture.fromarray(p.astype(np.uint8)) for p in pixels]
    ds = Dataset.from_dict({"img": images}).cast_column("img", Image())

    emb = fmc.embed(ds, encoder=Colours(), column="img")
    result = fmc.cluster(
        emb, head="turtle", n_clusters=3, random_state=0, preprocess="center,l2",
        head_params={"epochs": 5, "min_steps": 40},
    )  # fmt: skip
    assert "90 rows, 3 clusters" in repr(result)
    ds = result.to_dataset(ds)
    assert isinstance(ds.features["cluster"], ClassLabel)
    assert ds["cluster"][:] == result.labels.tolist()
    assert result.report("report.html").stat().st_size > 10_000
    assert "data:image/jpeg" in Path("report.html").read_text()

    uploaded = []

    class Api:
        def __init__(self, token=None): ...

        def create_repo(self, *args, **options): ...

        def upload_folder(self, *, folder_path, **options):
            uploaded.extend(path.name for path in Path(folder_path).rglob("*"))
            return type("Commit", (), {"commit_url": "url"})

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert fmc.push_to_hub(result.head, "me/colours-turtle") == "url"
    assert {"model.safetensors", "config.json"} <= set(uploaded)


def test_3_a_list_of_texts():
    Path("tickets.txt").write_text("\n".join(topic_texts(120)) + "\n")

    texts = Path("tickets.txt").read_text().splitlines()
    emb = fmc.embed(texts, encoder=WordEncoder())
    k = fmc.estimate_n_clusters(emb, k_range=(2, 12))
    assert k.interval[0] <= k.best <= k.interval[1]
    result = fmc.cluster(emb, head="kmeans", n_clusters=k.best)
    shown = [(c.name, c.size, [texts[i] for i in c.exemplars(3)]) for c in result.largest(5)]
    assert all(size >= 1 and len(examples) == min(3, size) for _, size, examples in shown)
    told = set(" ".join(TOPICS).split())
    assert any(told & set(name.replace(",", "").split()) for name, *_ in shown)
    new = result.predict(["stock market price fell"], encoder=WordEncoder())
    assert new[0] == np.bincount(result.labels[2::3]).argmax()


def test_4_a_long_tail_benchmark_from_the_shell(blobs, capsys):
    pytest.importorskip("fmcluster.bench")
    Path("data").mkdir()
    X, y = blobs(200, 4)
    np.savez("data/toy.npz", x=X.astype(np.float16), y=y)
    assert main(["bench", "list", "--json"]) == 0
    assert "long-tail" in json.loads(capsys.readouterr().out)["suites"]
    argv = [
        "bench", "long-tail", "--data", "data", "--dataset", "toy", "--head", "kmeans",
        "--seeds", "1", "--out", "results", "--quiet", "--json",
    ]  # fmt: skip
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) != {}
    assert first
    assert list(Path("results").rglob("*.json"))


def test_5_which_samples_to_label(blobs):
    X, y = blobs(300, 3, spread=0.4)
    result = fmc.cluster(X, n_clusters=3, head="kmeans", random_state=0)
    for strategy in ("auto", "uncertain", "coreset", "tail"):
        assert len(set(fmc.query(result, budget=20, strategy=strategy))) == 20
    ids = fmc.query(result, budget=60, random_state=0)
    answers = [("ant", "bee", "cat")[y[i]] for i in ids]
    better = result.calibrate(ids, answers)
    assert set(better.names) == {"ant", "bee", "cat"}
    about = better.provenance["calibration"]
    assert about["n_labels"] == 60
    assert "ece_before" in about
    assert "ece_after" in about


def test_6_label_noise(blobs):
    X, y = blobs(300, 3)
    draw = np.random.default_rng(0)
    wrong = draw.choice(300, 30, replace=False)
    given = y.copy()
    given[wrong] = (y[wrong] + 1) % 3
    result = fmc.cluster(X, n_clusters=3, head="kmeans")

    issues = fmc.find_label_issues(result, labels=given)
    assert list(issues.columns) == ["id", "given", "suggested", "score"]
    assert len(set(issues["id"]) & set(wrong)) >= 27
    from fmcluster.labeling.duplicates import find_near_duplicates

    assert {"id", "group"} <= set(find_near_duplicates(result.graph, threshold=0.97).columns)
    ds = Dataset.from_dict({"label": given})
    kept = ds.select(np.setdiff1d(np.arange(300), issues["id"]))
    assert len(kept) == 300 - len(issues)
    result.report("report.html", labels=y, issues=issues)
    assert "Suspicious labels" in Path("report.html").read_text()
