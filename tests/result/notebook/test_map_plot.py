"""`result.plot`: a point a row in the color of its cluster, names where there is room."""

import sys

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.utils.errors import MissingExtraError


@pytest.fixture(scope="module")
def result(blobs):
    data = blobs(sizes=[120, 60, 20], spread=0.15)
    found = fmc.cluster(data.x, n_clusters=3, head="kmeans")
    return found.with_pipeline(names=("first", "$second$ of _two", "x" * 60))


@pytest.fixture
def axes():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(6, 6)).subplots()


def test_it_draws_a_point_a_row_with_the_names_of_clusters(result, axes):
    assert result.plot(ax=axes) is axes
    (points,) = axes.collections
    at = np.asarray(points.get_offsets())
    assert at.shape == (200, 2) and 0 <= at.min() and at.max() <= 1
    colors = np.asarray(points.get_facecolors())
    for c in range(3):
        assert len(np.unique(colors[result.labels == c], axis=0)) == 1
    assert len(np.unique(colors, axis=0)) == 3
    written = {text.get_text() for text in axes.texts}
    assert written <= {"first", "$second$ of _two", "x" * 23 + "…"} and "first" in written
    first = next(text for text in axes.texts if text.get_text() == "first")
    np.testing.assert_allclose(first.get_position(), np.median(at[result.labels == 0], axis=0))
    assert axes.get_title() == "200 rows, 3 clusters"
    axes.figure.savefig("/dev/null", format="png")  # "$" is no formula


def test_names_do_not_cover_each_other(axes):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    X = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    many = fmc.cluster(X, n_clusters=60, head="kmeans")
    many.plot(ax=axes)
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert 5 < len(boxes) < 60
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    axes.clear()
    many.plot(ax=axes, names=False)
    assert not axes.texts


@pytest.mark.parametrize("color", ["confidence", "outlier_score"])
def test_colors_of_a_number_come_with_their_scale(result, axes, color):
    result.plot(ax=axes, color=color, size=9)
    np.testing.assert_allclose(axes.collections[0].get_array(), getattr(result, color))
    assert axes.collections[0].get_sizes().tolist() == [9]
    assert [a.get_ylabel() for a in axes.figure.axes[1:]] == [color.replace("_", " ")]


def test_of_many_rows_a_sample_is_drawn_and_said(result, axes, monkeypatch):
    monkeypatch.setattr(sys.modules["fmcluster.result.notebook.plot"], "MOST_ROWS", 50)
    result.plot(ax=axes, projection="pca")
    assert len(axes.collections[0].get_offsets()) == 50
    assert axes.get_title() == "200 rows, 50 of them drawn, 3 clusters"


def test_without_axes_there_is_a_new_figure(result):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    before = set(pyplot.get_fignums())
    axes = result.plot(names=False)
    assert set(pyplot.get_fignums()) - before == {axes.figure.number}
    pyplot.close(axes.figure)


def test_what_cannot_be_drawn_is_one_line(result, axes, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="color.*'size'"):
        result.plot(ax=axes, color="size")
    with pytest.raises(ValueError, match="projection.*'tsne'"):
        result.plot(ax=axes, projection="tsne")
    result.save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    with pytest.raises(ValueError, match=r"result\.attach\(embeddings\)"):
        loaded.plot(ax=axes)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib is not installed.*\[report\]"):
        result.plot(ax=axes)
