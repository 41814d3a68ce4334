"""The report is one page that asks for nothing, escapes everything and stays small."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.result.report.figures import histogram, reliability, risk_coverage, sizes
from fmcluster.result.report.items import Items, thumbnail
from fmcluster.result.report.page import embed_json
from fmcluster.utils.ids import IdIndex

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)> & "quotes" \u2028'


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


@pytest.fixture
def result(blobs):
    X, y = blobs(200, 4)
    return fmc.cluster(X, n_clusters=4, head="kmeans"), y


def test_texts_are_shown_and_hostile_ones_are_data_only(result, tmp_path):
    result, y = result
    items = [HOSTILE if i % 5 == 0 else f"text {i}" for i in range(200)]
    path = result.report(tmp_path / "r.html", items=items, labels=y, title=HOSTILE)
    page = path.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "onerror=alert(1)>" not in page
    assert page.count("<script") == 2
    data = data_of(page)
    shown = [row["text"] for c in data["clusters"] for row in c["typical"] + c["unsure"]]
    assert any("</script>" in text for text in shown)
    assert data["kind"] == "text"
    assert len(data["map"]["x"]) == 200


def test_nothing_is_fetched(result, tmp_path):
    page = result[0].report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#|data:)[^"]', page)
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_images_become_thumbnails_and_one_sprite(result, tmp_path):
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(200)]
    data = data_of(result[0].report(tmp_path / "r.html", items=images).read_text())
    assert data["kind"] == "image"
    assert data["clusters"][0]["typical"][0]["image"].startswith("data:image/jpeg;base64,")
    assert data["map"]["sprite"].startswith("data:image/jpeg;base64,")


def test_examples_are_of_their_cluster_and_counts_add_up(result, tmp_path):
    result, _ = result
    items = [f"row {i}" for i in range(200)]
    data = data_of(result.report(tmp_path / "r.html", items=items).read_text())
    assert sum(cluster["size"] for cluster in data["clusters"]) == 200
    for cluster in data["clusters"]:
        for row in cluster["typical"] + cluster["unsure"]:
            assert row["text"] == f"row {row['id']}"
            assert result.labels[int(row["id"])] == cluster["label"]
        assert cluster["nearest"] != cluster["label"]


def test_a_loaded_result_reports_without_data(result, tmp_path):
    result[0].save(tmp_path / "run")
    page = fmc.ClusterResult.load(tmp_path / "run").report(tmp_path / "r.html").read_text()
    assert "no raw data was given" in page
    assert data_of(page)["map"]["x"] == []


def test_a_thousand_clusters_stay_under_five_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    n, k = 4000, 1000
    centres = generator.normal(size=(k, 24))
    X = np.repeat(centres, 4, axis=0) + 0.05 * generator.normal(size=(n, 24))
    head = fmc.make_head("kmeans", n_clusters=k, n_init=1, max_iter=4, random_state=0)
    result = fmc.cluster(X.astype("f4"), head=head, calibrate=False)
    texts = [f"{i} " + "word " * 80 for i in range(n)]
    assert result.report(tmp_path / "t.html", items=texts).stat().st_size < 5e6
    pixels = generator.integers(0, 255, size=(n, 64, 64, 3)).astype(np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    assert result.report(tmp_path / "i.html", items=images).stat().st_size < 5e6


def test_samples_to_label_and_suspicious_labels_are_listed(result, tmp_path):
    import pandas as pd

    issues = pd.DataFrame(
        {"id": [3, 5], "given": ["a", "b"], "suggested": ["b", "a"], "score": [0.01, 0.2]}
    )
    page = result[0].report(tmp_path / "r.html", to_label=[1, 2], issues=issues).read_text()
    data = data_of(page)
    assert [row["id"] for row in data["to_label"]] == ["1", "2"]
    assert [row["score"] for row in data["issues"]] == [0.01, 0.2]
    assert "export-label" in page
    assert "export-issues" in page


def test_long_lists_keep_their_numbers_and_lose_their_texts(result, tmp_path, monkeypatch):
    monkeypatch.setattr("fmcluster.result.report.content.MOST_LISTED", 5)
    items = [f"row {i}" for i in range(200)]
    path = result[0].report(tmp_path / "r.html", items=items, to_label=np.arange(9))
    rows = data_of(path.read_text())["to_label"]
    assert [row["id"] for row in rows] == [str(i) for i in range(9)]
    assert [row.get("text") for row in rows] == [f"row {i}" for i in range(5)] + [None] * 4


def test_unknown_projection_and_ids_are_refused(result, tmp_path):
    with pytest.raises(ValueError, match="'tsne'"):
        result[0].report(tmp_path / "r.html", projection="tsne")
    with pytest.raises(ValueError, match="999"):
        result[0].report(tmp_path / "r.html", to_label=[999])
    assert not (tmp_path / "r.html").exists()


def test_figures_say_their_numbers():
    confidence = np.array([0.1, 0.1, 0.95, 0.95])
    assert ">0.10 to 0.15: 2 rows<" in histogram(confidence)
    drawn = reliability(confidence, np.array([False, True, True, True]))
    assert "confidence 0.100, accuracy 0.500, 2 rows" in drawn
    assert "confidence 0.950, accuracy 1.000, 2 rows" in drawn
    assert risk_coverage(confidence, np.ones(4, bool)).count("<polyline") == 1
    assert sizes(np.array([3, 1]), np.array([0.7, 0.3])).count("<rect") == 2


def test_embedded_json_holds_no_markup():
    text = embed_json({"a": HOSTILE})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE}


def test_long_texts_are_cut_and_small_images_enlarged():
    items = Items(["x" * 500], IdIndex(np.array([0])))
    items.load(np.array([0]))
    assert items.text(0, 20) == "x" * 19 + "…"
    assert thumbnail(Image.new("L", (8, 8))).startswith("data:image/jpeg")
