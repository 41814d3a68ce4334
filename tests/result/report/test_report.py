"""The report is one page that asks for nothing, escapes everything and stays small."""

import base64
import io
import json
import re
import wave

import numpy as np
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data import audio
from fmcluster.result.loop.levels import Level
from fmcluster.result.report.figures import histogram, reliability, risk_coverage, sizes
from fmcluster.result.report.items import Items, thumbnail
from fmcluster.result.report.page import embed_json, joined
from fmcluster.utils.ids import IdIndex

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)> & "quotes" \u2028'


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


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
    assert len(data["map"]["id"]) == len(data["map"]["text"]) == 200
    assert unpacked(data["map"]["points"], "<u2").shape == (400,)


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
        assert all(other["label"] != cluster["label"] for other in cluster["confused"])


def test_a_loaded_result_reports_without_data(result, tmp_path):
    result[0].save(tmp_path / "run")
    page = fmc.ClusterResult.load(tmp_path / "run").report(tmp_path / "r.html").read_text()
    assert "no raw data was given" in page
    data = data_of(page)["map"]
    assert data["method"] == "neighbours", "the graph is saved with the result"
    points = unpacked(data["points"], "<u2").reshape(-1, 2)
    assert len(np.unique(points, axis=0)) > 150
    np.testing.assert_array_equal(unpacked(data["label"], "<i4"), result[0].labels)


def test_a_thousand_clusters_stay_under_five_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    n, k = 2000, 1000
    centres = generator.normal(size=(k, 24))
    X = np.repeat(centres, 2, axis=0) + 0.05 * generator.normal(size=(n, 24))
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
    monkeypatch.setattr("fmcluster.result.report.lists.MOST_LISTED", 5)
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


def test_of_many_rows_an_even_sample_with_every_cluster_is_shown(result, tmp_path, monkeypatch):
    monkeypatch.setattr("fmcluster.result.report.rows.MOST_ROWS", 50)
    result = result[0]
    items = [f"row {i}" for i in range(200)]
    data = data_of(result.report(tmp_path / "r.html", items=items).read_text())
    shown = data["map"]
    assert shown["total"] == 200 and len(shown["id"]) == 50
    rows = np.array(shown["id"], int)
    assert shown["text"] == [f"row {i}" for i in rows]
    np.testing.assert_array_equal(unpacked(shown["label"], "<i4"), result.labels[rows])
    assert set(result.labels[rows]) == set(range(4))
    assert sum(cluster["size"] for cluster in data["clusters"]) == 200


def test_texts_are_cut_to_what_a_page_has_room_for(result, tmp_path, monkeypatch):
    items = ["ab" * 60 + f" {i}" for i in range(200)]
    page = result[0].report(tmp_path / "r.html", items=items).read_text()
    assert data_of(page)["map"]["cut"] == 0
    monkeypatch.setattr("fmcluster.result.report.rows.TEXT_BYTES", 200 * 50)
    shown = data_of(result[0].report(tmp_path / "r.html", items=items).read_text())["map"]
    assert 40 < shown["cut"] <= 50
    assert {len(text) for text in shown["text"]} == {shown["cut"]}
    monkeypatch.setattr("fmcluster.result.report.rows.TEXT_BYTES", 8e6)
    long = data_of(result[0].report(tmp_path / "r.html", items=["x" * 3000] * 200).read_text())
    assert long["map"]["cut"] == len(long["map"]["text"][0]) == 1000


def test_levels_are_those_of_the_result(blobs, tmp_path):
    X, _ = blobs(300, 6)
    result = fmc.cluster(X, n_clusters=6, head="kmeans")
    vars(result)["levels"] = tuple(Level(k, 0.5, k == 6) for k in (2, 6, 9))
    levels = data_of(result.report(tmp_path / "r.html").read_text())["levels"]
    numbers = [level.n_clusters for level in result.levels]
    assert [level["k"] for level in levels] == numbers
    for level in levels:
        expected = result.at_level(level["k"])
        assert level["sizes"] == expected.sizes.tolist()
        assert len(level["names"]) == level["k"]
        found = (
            np.array(level["of"])[result.labels]
            if "of" in level
            else unpacked(level["label"], "<i4")
        )
        np.testing.assert_array_equal(found, expected.labels)


def test_outliers_and_near_duplicates_are_listed(blobs, tmp_path):
    X, _ = blobs(200, 4)
    X[7] = X[3]
    X[9] = -5 * X.sum(axis=0)
    result = fmc.cluster(X, n_clusters=4, head="kmeans")
    items = [f"row {i}" for i in range(200)]
    data = data_of(result.report(tmp_path / "r.html", items=items).read_text())
    assert [row["id"] for row in data["outliers"]] == [str(i) for i in result.outliers(0.01)]
    assert data["outliers"][0]["text"] == "row 9" and data["outliers"][0]["odd"] > 0.99
    doubles = data["duplicates"]
    [pair] = [pair for pair in doubles["pairs"] if pair["rows"][0]["id"] == "3"]
    assert pair["rows"][1]["text"] == "row 7" and pair["similarity"] > 0.9999
    table = {row[0]: row for row in doubles["table"]}
    assert len(table) == doubles["rows"] and table["3"][2] == "7"


def test_recordings_are_clips_that_an_audio_element_plays(result, tmp_path):
    tone = np.sin(np.arange(8000) / 5).astype(np.float32)
    for items in (
        [audio.Sound(tone, 8000)] * 200,
        [{"array": tone, "sampling_rate": 8000}] * 200,
    ):
        data = data_of(result[0].report(tmp_path / "r.html", items=items).read_text())
        assert data["kind"] == "audio"
        url = data["clusters"][0]["typical"][0]["audio"]
        assert url.startswith("data:audio/")
        if audio.can_read():
            clip = audio.decode_audio(base64.b64decode(url.partition(",")[2]))
            assert clip.seconds == pytest.approx(1, abs=0.1)


def test_clips_need_no_extra(result, tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "can_read", lambda: False)
    tone = np.sin(np.arange(88_200) / 5).astype(np.float32)
    items = [{"array": tone, "sampling_rate": 44_100}] * 200
    data = data_of(result[0].report(tmp_path / "r.html", items=items).read_text())
    mime, _, content = data["clusters"][0]["typical"][0]["audio"].partition(";base64,")
    assert mime == "data:audio/wav"
    with wave.open(io.BytesIO(base64.b64decode(content))) as file:
        assert (file.getframerate(), file.getnframes()) == (44_100, 88_200)
        samples = np.frombuffer(file.readframes(88_200), "<i2") / 32_767
    np.testing.assert_allclose(samples, tone, atol=1 / 32_767)


def test_scripts_are_joined_or_refused():
    one = "export const a = 1;\nexport function f() {}\n"
    two = 'import { a } from "./one.js";\nexport async function g() { return a; }\n'
    script = joined([one, two])
    assert "import" not in script and "export" not in script
    assert script.index("const a") < script.index("async function g")
    with pytest.raises(ValueError, match="export default"):
        joined(["export default 3;"])


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
