"""The rows that a page holds: where they are on its map, what they say, their clusters by level.

All rows where there are few enough; of more, an even sample that has every cluster, and the page
says so.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.cluster import names_of
from fmcluster.result.report.items import Items
from fmcluster.result.report.points import lay_out
from fmcluster.result.report.projection import project, whole
from fmcluster.utils.random import seed_of

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows of a page; of so many it has under 15 MB, and a browser finds words in them at once.
MOST_ROWS = 50_000
# Rows with a picture on the map: more would lie on each other, and cost a kilobyte each.
MOST_PICTURES = 2_500
# Bytes of all texts together, and characters of one: what a page of 50,000 rows has room for, and
# what a person reads of a row in a list.
TEXT_BYTES, MOST_TEXT = 8_000_000, 1_000
# Levels on the slider: a person compares a few.
MOST_LEVELS = 8


def choose_rows(result: ClusterResult) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the page, ascending, and those of them with a picture on the map.

    All, or an even sample with every cluster in it.
    """
    rows = _even_sample(result.labels, MOST_ROWS, "page")
    return rows, rows[_even_sample(result.labels[rows], MOST_PICTURES, "pictures")]


def _even_sample(labels: NDArray[np.int64], most: int, stream: str) -> NDArray[np.int64]:
    """Return at most `most` places of `labels`, ascending, evenly drawn but one of each label."""
    n = len(labels)
    if n <= most:
        return np.arange(n)
    drawn = np.random.default_rng(seed_of(0, stream)).choice(n, most, replace=False)
    first = np.unique(labels, return_index=True)[1][:most]
    others = drawn[~np.isin(drawn, first)]
    return np.union1d(others[: most - len(first)], first)


def row_data(
    result: ClusterResult,
    items: Items,
    rows: NDArray[np.int64],
    pictured: NDArray[np.int64],
    *,
    projection: str,
) -> dict[str, Any]:
    """Return what the page holds of its rows, JSON-able; numbers as base64 of little-endian arrays.

    Returns
    -------
    dict
        ``points`` uint16 x and y, ``label`` int32, ``confidence`` and ``odd`` (outlier score, empty
        without a graph) uint8 of 0..255, ``id`` and ``text`` lists, ``sprite`` a sheet of pictures
        and ``place`` int32 of each row in it (-1 for none).
    """
    method = projection
    if result.embeddings is None:
        method = "clusters" if result.graph is None else "neighbours"
    texts, cut = _texts(items, rows) if items.kind == "text" else ([], 0)
    odd = np.empty(0) if result.graph is None else result.outlier_score[rows]
    place = np.full(len(rows), -1, np.int32)
    if items.kind == "image":
        place[np.searchsorted(rows, pictured)] = np.arange(len(pictured))
    return {
        "method": method,
        "total": result.n_rows,
        "points": packed(_points(result, rows, projection), "<u2"),
        "label": packed(result.labels[rows], "<i4"),
        "confidence": packed(np.rint(255 * result.confidence[rows]), "u1"),
        "odd": packed(np.rint(255 * odd), "u1"),
        "id": [str(one) for one in result.ids[rows].tolist()],
        "text": texts,
        "cut": cut,
        "sprite": items.sprite(pictured.tolist()) if items.kind == "image" else None,
        "place": packed(place, "<i4"),
    }


def level_data(result: ClusterResult, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the numbers of clusters worth looking at, coarse to fine, the result's own among them.

    Each has the names, the sizes, the mean confidence and the cluster of each of the rows: ``of``,
    where it joins whole clusters of the result, else ``label``, packed int32.
    """
    if result.n_clusters < 2 or (result.embeddings is None and result.graph is None):
        return []
    own = result.n_clusters
    numbers = [level.n_clusters for level in result.levels]
    others = sorted((k for k in numbers if k != own), key=lambda k: abs(np.log(k / own)))
    wanted = sorted({own, *others[: MOST_LEVELS - 1]})
    return [_level(result, rows, k) for k in wanted] if len(wanted) > 1 else []


def _level(result: ClusterResult, rows: NDArray[np.int64], k: int) -> dict[str, Any]:
    found = result if k == result.n_clusters else result.at_level(k)
    data: dict[str, Any] = {
        "k": k,
        "names": names_of(found),
        "sizes": found.sizes.tolist(),
        "confidence": round(float(found.confidence.mean()), 4),
    }
    there = result.labels >= 0
    first = np.unique(result.labels[there], return_index=True)
    of = np.full(result.n_clusters, -1)
    of[first[0]] = found.labels[there][first[1]]
    if np.array_equal(of[result.labels[there]], found.labels[there]):
        return {**data, "of": of.tolist()}
    return {**data, "label": packed(found.labels[rows], "<i4")}


def packed(values: NDArray[Any], dtype: str) -> str:
    """Return an array as base64 text: a third of what its numbers take as JSON."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()


def _points(result: ClusterResult, rows: NDArray[np.int64], projection: str) -> NDArray[np.uint16]:
    if projection == "neighbours" or result.embeddings is None:
        return whole(lay_out(result)[rows])
    return whole(project(result, rows, method=projection))


def _texts(items: Items, rows: NDArray[np.int64]) -> tuple[list[str], int]:
    """Return the texts of the rows, all cut to a length at which they have room, and this length.

    The length is 0 where none was cut.
    """
    texts = [items.text(row, MOST_TEXT) for row in rows.tolist()]
    # As they will stand in the page: other signs than Latin letters take up to six bytes.
    sizes = np.array([_size(text) for text in texts], np.float64)
    signs = np.maximum([len(text) for text in texts], 1)
    is_cut = any(len(text) == MOST_TEXT and text.endswith("…") for text in texts)
    # Of fewer characters nothing is said.
    low, high = 20, MOST_TEXT
    if sizes.sum() <= TEXT_BYTES:
        return texts, MOST_TEXT if is_cut else 0
    while low < high:  # the longest that fits
        middle = (low + high + 1) // 2
        if (sizes * np.minimum(1, middle / signs)).sum() <= TEXT_BYTES:
            low = middle
        else:
            high = middle - 1
    return [items.text(row, low) for row in rows.tolist()], low


def _size(text: str) -> int:
    # An escaped sign is six characters: five more than the sign itself.
    return len(json.dumps(text, ensure_ascii=False).encode()) + 5 * sum(map(text.count, "<>&"))
