"""The report: one self-contained HTML page of a result, for people.

Data goes into the page as JSON and is shown through text nodes only, so that no text, label or
file name is ever taken for markup; nothing is fetched, so the page works from ``file://``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmcluster.utils.files import write_text

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

__all__ = ["write_report"]


def write_report(
    result: ClusterResult,
    path: str | os.PathLike[str],
    *,
    items: Any = None,
    labels: Any = None,
    title: str = "Clusters",
    projection: str = "neighbours",
    to_label: Any = None,
    issues: Any = None,
) -> Path:
    """Write the report of `result` to `path` and return the path.

    Parameters
    ----------
    result : ClusterResult
        What to show.
    path : path
        The HTML file.
    items : Source or sequence, optional
        The raw rows (texts or images), by row id; shown as examples. Default: the result's own
        source, where it still has one.
    labels : (n,) array, optional
        True labels in the order of ``result.ids``: adds metrics, a reliability diagram and a
        risk-coverage curve.
    title : str
        Heading of the page.
    projection : {"neighbours", "pca", "umap"}
        How the map is made: neighbors together, linear, or by umap-learn.
    to_label : sequence of ids, optional
        Samples proposed for labeling, shown as a list with export to CSV.
    issues : DataFrame, optional
        Suspicious labels (columns id, given, suggested, score), shown with export to CSV.
    """
    from fmcluster.result.report.content import page_data
    from fmcluster.result.report.page import render

    data = page_data(
        result,
        items=result.source if items is None else items,
        labels=labels,
        title=title,
        projection=projection,
        to_label=to_label,
        issues=issues,
    )
    target = Path(path)
    write_text(target, render(data))
    return target
