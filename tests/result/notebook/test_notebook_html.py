"""What a notebook shows of a result: true, escaped, small, and without side effects."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import fmcluster as fmc
from fmcluster.embedding.data.source import Source

HOSTILE = '<img src=x onerror="alert(1)">&amp;"\''


class Page(HTMLParser):
    """Tags with their attributes, and the text of every cell."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.cells, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(sizes=[90, 60, 30], spread=0.2)


@pytest.fixture(scope="module")
def result(data):
    return fmc.cluster(data.x, n_clusters=3, head="kmeans")


def test_it_shows_names_sizes_confidence_and_examples_largest_first(result, data):
    texts = [f"text {i} of {y}" for i, y in enumerate(data.y)]
    named = result.with_pipeline(names=("one", "two", "three"))
    page = Page(dataclasses.replace(named, source=Source(texts))._repr_html_())
    assert not page.open  # every tag is closed
    header, rows = page.cells[:6], np.reshape(page.cells[6:], (3, 6))
    assert header == ["cluster", "name", "rows", "share", "confidence", "typical rows"]
    order = np.argsort(-result.sizes, kind="stable")
    table = named.table()
    for row, c in zip(rows, order, strict=True):
        assert row[0] == str(c) and row[1] == named.names[c] and row[2] == str(result.sizes[c])
        assert row[3] == f"{100 * result.sizes[c] / 180:.1f} %"
        assert row[4] == f"{100 * table['confidence'][c]:.1f} %"
        assert row[5] == "".join(texts[r] for r in result.cluster(c).exemplars(3))


def test_nothing_of_the_data_is_markup(result):
    ids = np.array([f"{HOSTILE}{i}" for i in range(result.n_rows)])
    hostile = dataclasses.replace(result.with_pipeline(names=(HOSTILE, "<b>", "&")), ids=ids)
    for source in (None, Source([f"{HOSTILE} {i}" for i in ids], ids=ids)):
        html = dataclasses.replace(hostile, source=source)._repr_html_()
        page = Page(html)
        assert {tag for tag, _ in page.tags} <= {
            "div", "b", "table", "thead", "tbody", "tr", "th", "td", "span",
        }  # fmt: skip
        names = {name for _, attributes in page.tags for name in attributes}
        assert names <= {"style", "dir", "title"}
        assert any(HOSTILE in cell for cell in page.cells)
    assert "<script" not in html and "<style" not in html and "http" not in html


def test_pictures_are_small_and_inside(result):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (result.n_rows, 300, 200, 3)).astype(np.uint8)
    source = Source([Image.fromarray(p) for p in pixels])
    html = dataclasses.replace(result, source=source)._repr_html_()
    images = [attributes for tag, attributes in Page(html).tags if tag == "img"]
    assert len(images) == 9 and len(html) < 40_000
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert {image["alt"] for image in images} == {
        str(row) for c in range(3) for row in result.cluster(c).exemplars(3)
    }


def test_a_thousand_clusters_stay_one_screen(blobs):
    X = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    base = fmc.cluster(X, n_clusters=2, head="kmeans")
    labels = np.minimum(np.arange(3000) // 2, 999)
    many = dataclasses.replace(
        base,
        labels=labels,
        proba=np.eye(1000, dtype=np.float32)[labels],
        source=Source([f"a rather long text about {i} " * 20 for i in range(3000)]),
    )
    html = many._repr_html_()
    assert len(html) < 30_000
    assert Page(html).tags.count(("tr", {})) == 26
    assert "and 975 smaller clusters of 2 to 2 rows: result.table() has all" in html
    assert len(many.table()) == 1000


def test_it_says_what_is_not_there(result, data, tmp_path):
    html = result._repr_html_()
    assert "by their ids, the raw data are not at hand" in html
    rows = result.cluster(0).exemplars(3)
    assert "".join(f'<div dir="auto" title="{r}">{r}</div>' for r in rows) in html
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"line {i}" for i in range(result.n_rows)))
    source = Source(str(path))
    path.unlink()
    html = dataclasses.replace(result, source=source)._repr_html_()
    assert "the raw data cannot be read" in html and "texts.txt" in html
    plain = fmc.cluster(
        np.eye(30, 4, dtype=np.float32), n_clusters=2, head="kmeans", calibrate=False
    )
    assert re.search(r"mean score [\d.]+ % \(not calibrated\)", plain._repr_html_())


def test_long_raw_data_are_not_read_unasked(result, monkeypatch):
    from fmcluster.result.notebook import html as module

    source = Source([f"text {i}" for i in range(result.n_rows)])
    held = dataclasses.replace(result, source=source)
    assert "text " in held._repr_html_()
    monkeypatch.setattr(module, "MOST_READ", {"text": 100, "image": 100})
    html = held._repr_html_()
    assert ">text " not in html and "result.table() reads the raw data" in html


def test_answers_edits_and_rows_in_no_cluster_are_told(data):
    result = fmc.cluster(data.x, n_clusters=3, random_state=0)
    changed = result.with_answers(labels={0: "a", 1: "b"}).rename({0: "c"})
    html = changed._repr_html_()
    assert "2 answers" in html and "1 edits" in html
    far = -5 * data.x.mean(axis=0) + np.random.default_rng(0).normal(size=(9, data.x.shape[1]))
    grown = result.update(far)
    assert f"{len(grown.novel)} rows in no cluster" in grown._repr_html_()


def test_looking_changes_nothing(result, data):
    before = {name: getattr(result, name).copy() for name in ("labels", "proba", "ids")}
    first = result._repr_html_()
    result.table(), result.frame()
    assert result._repr_html_() == first
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(result, name), value)
