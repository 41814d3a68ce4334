"""The map of a result on matplotlib axes."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.cluster import names_of
from fmcluster.result.report.projection import project
from fmcluster.utils.optional import require
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in
from fmcluster.vectors.rows import sample_indices

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fmcluster.result.result import ClusterResult

COLORS = ("cluster", "confidence", "outlier_score")
PROJECTIONS = ("neighbours", "pca", "umap")
# Rows that are drawn: as on the report's map, laid out within a second or two.
MOST_ROWS = 20_000
# Characters of a name on the map: a quarter of its width.
NAME_LENGTH = 24
# As in report and app: neighbors in number get hues that are far apart.
GOLDEN_ANGLE = 137.508
# A gray that is seen on white and on black.
NO_CLUSTER = (0.55, 0.55, 0.55)


def plot(
    result: ClusterResult,
    *,
    ax: Axes | None = None,
    color: str = "cluster",
    projection: str = "neighbours",
    names: bool = True,
    size: float | None = None,
) -> Axes:
    """Draw the map: a point a row, names where clusters lie and there is room.

    Needs matplotlib (extra ``report``). Of more than 20,000 rows an even sample is drawn.

    Parameters
    ----------
    result : ClusterResult
        With its embeddings.
    ax : matplotlib Axes, optional
        Where to draw; by default on a new figure of pyplot.
    color : {"cluster", "confidence", "outlier_score"}
        What points are colored by.
    projection : {"neighbours", "pca", "umap"}
        As for `report`.
    names : bool
        Whether names are written, those of large clusters first.
    size : float, optional
        Area of a point in points squared; by default by the number of rows.

    Returns
    -------
    Axes
        ``ax.figure.savefig(path)`` keeps it.

    Raises
    ------
    ValueError
        The result has no embeddings; another `color` or `projection`.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> result.plot(color="confidence").figure.savefig("map.png")  # doctest: +SKIP
    """
    check_in(color, COLORS, "color")
    check_in(projection, PROJECTIONS, "projection")
    if result.embeddings is None:
        raise ValueError(
            "the map needs the embeddings, which are not saved with a result: give them by "
            "result.attach(embeddings)"
        )
    require("matplotlib", extra="report")
    rows = sample_indices(result.labels, MOST_ROWS, seed_of(0, "map"))
    points = project(result, rows, method=projection)
    axes = _axes(ax)
    # Of 1,000 to 20,000 points the ink is the same; smaller ones are not seen, larger ones overlap.
    area = float(np.clip(30_000 / max(len(rows), 1), 1.5, 30)) if size is None else size
    _draw(axes, result, rows, points, color=color, area=area)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    axes.set_title(_title(result, len(rows)), fontsize="medium")
    if names:
        _write_names(axes, result, rows, points)
    return axes


def _axes(ax: Axes | None) -> Any:
    if ax is not None:
        return ax
    pyplot = require("matplotlib.pyplot", extra="report", package="matplotlib")
    # Inches: as wide as a notebook shows at full size, and square, as both axes are alike.
    return pyplot.subplots(figsize=(7, 7), layout="constrained")[1]


def _draw(
    axes: Any,
    result: ClusterResult,
    rows: NDArray[np.int64],
    points: NDArray[Any],
    *,
    color: str,
    area: float,
) -> None:
    options: dict[str, Any] = {"s": area, "linewidths": 0, "rasterized": True}
    if color == "cluster":
        palette = np.array([*(_color(c) for c in range(result.n_clusters)), NO_CLUSTER])
        axes.scatter(points[:, 0], points[:, 1], c=palette[result.labels[rows]], **options)
        return
    values = result.confidence if color == "confidence" else result.outlier_score
    word = color.replace("_", " ")
    if color == "confidence" and not result.is_calibrated:
        word = "score (not calibrated)"
    drawn = axes.scatter(
        points[:, 0], points[:, 1], c=values[rows], cmap="viridis", vmin=0, vmax=1, **options
    )
    # Six tenths of the map in height: a bar as high as the map draws the eye from it.
    axes.figure.colorbar(drawn, ax=axes, shrink=0.6, label=word)


def _color(label: int) -> tuple[float, float, float]:
    """Return the color of a cluster (red, green, blue), as on the pages."""
    # Lighter is lost on white, darker or grayer makes hues alike.
    return colorsys.hls_to_rgb(label * GOLDEN_ANGLE % 360 / 360, 0.46, 0.62)


def _title(result: ClusterResult, n_drawn: int) -> str:
    of = "" if n_drawn == result.n_rows else f", {n_drawn:,} of them drawn"
    return f"{result.n_rows:,} rows{of}, {result.n_clusters:,} clusters"


def _write_names(
    axes: Any, result: ClusterResult, rows: NDArray[np.int64], points: NDArray[Any]
) -> None:
    """Write names at the middle of clusters, largest first, where none stands yet."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.patheffects import withStroke

    labels = result.labels[rows]
    present, counts = np.unique(labels[labels >= 0], return_counts=True)
    titles = names_of(result)
    figure = axes.figure.canvas.figure
    figure.draw_without_rendering()  # a layout may still move the axes
    width, height = figure.get_size_inches() * figure.dpi
    renderer = RendererAgg(width, height, figure.dpi)  # measures, whatever the figure is drawn by
    # Thinner or clearer, and points show through a name; thicker, and it covers them.
    halo = withStroke(linewidth=2.5, foreground=axes.get_facecolor(), alpha=0.85)
    taken: list[Any] = []
    for label in present[np.argsort(-counts, kind="stable")].tolist():
        x, y = np.median(points[labels == label], axis=0)
        name = titles[label]
        text = axes.text(
            x, y, name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…",
            ha="center", va="center", fontsize="small", parse_math=False, clip_on=True,
            path_effects=[halo],
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)
