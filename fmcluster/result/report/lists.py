"""Lists of rows that a page shows: to label, suspicious, unlike all others, all but the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.report.items import Items
from fmcluster.vectors.near_pairs import NEAR_DUPLICATE, NearDuplicates, near_duplicates

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Rows of a list that are shown with their text or picture; the others keep their numbers only.
MOST_LISTED = 1_000
# Rows unlike all others, and pairs that are all but the same: what a person looks through.
MOST_OUTLIERS, MOST_PAIRS = 60, 60
# The share of good rows that may be named among those (`ClusterResult.outliers`).
ALPHA = 0.01
# Near-duplicates that the file to download has: of more, the page would hold little else.
MOST_EXPORTED = 20_000
# Characters shown of a text in a list.
TEXT_LENGTH = 240


@dataclass(frozen=True)
class Lists:
    """The rows of each list, before their texts are read.

    Attributes
    ----------
    to_label, flagged, outliers : (m,) int64
        Row numbers, in order.
    n_outliers : int
        How many there are, of which `outliers` are the first.
    pairs : (m, 3) float64
        Two rows and their cosine, the most alike first.
    doubles : NearDuplicates or None
        All groups; None without a graph.
    """

    to_label: NDArray[np.int64]
    flagged: NDArray[np.int64]
    outliers: NDArray[np.int64]
    n_outliers: int
    pairs: NDArray[np.float64]
    doubles: NearDuplicates | None

    @property
    def shown(self) -> list[NDArray[np.int64]]:
        """Rows that are shown with their text or picture."""
        pairs = self.pairs[:, :2].astype(np.int64).ravel()
        return [self.to_label[:MOST_LISTED], self.flagged[:MOST_LISTED], self.outliers, pairs]


def find_lists(result: ClusterResult, *, to_label: Any, issues: Any) -> Lists:
    """Return the rows of all lists.

    Parameters
    ----------
    to_label : sequence of ids or None
        Given by the caller, as `issues`, a table with a column id.
    """
    none = np.empty(0, np.int64)
    graph = result.graph
    doubles = None if graph is None else near_duplicates(graph)
    odd = none if graph is None else result.rows_of(result.outliers(ALPHA))
    return Lists(
        none if to_label is None else result.rows_of(to_label),
        none if issues is None else result.rows_of(issues["id"].to_numpy()),
        odd[:MOST_OUTLIERS],
        len(odd),
        np.empty((0, 3)) if doubles is None else _pairs(doubles),
        doubles,
    )


def list_data(result: ClusterResult, items: Items, lists: Lists, issues: Any) -> dict[str, Any]:
    """Return the lists as the page has them, JSON-able."""
    score = None if result.graph is None else result.outlier_score
    return {
        "to_label": [
            _listed(result, items, row, place) for place, row in enumerate(lists.to_label)
        ],
        "issues": [
            {
                "given": str(given),
                "suggested": str(suggested),
                "score": round(float(value), 4),
                **_listed(result, items, row, place),
            }
            for place, (row, given, suggested, value) in enumerate(_flagged(lists, issues))
        ],
        "outliers": [
            {"odd": round(float(score[row]), 4), **_listed(result, items, row, 0)}
            for row in lists.outliers
            if score is not None
        ],
        "n_outliers": lists.n_outliers,
        "duplicates": {"cosine": NEAR_DUPLICATE, **_duplicates(result, items, lists)},
    }


def example(result: ClusterResult, items: Items | None, row: int) -> dict[str, Any]:
    """Return what the page shows of one row."""
    return {
        "id": str(result.ids[row]),
        "cluster": int(result.labels[row]),
        "confidence": round(float(result.confidence[row]), 3),
        **(items.show(int(row), TEXT_LENGTH) if items else {}),
    }


def _listed(result: ClusterResult, items: Items, row: int, place: int) -> dict[str, Any]:
    return example(result, items if place < MOST_LISTED else None, int(row))


def _flagged(lists: Lists, issues: Any) -> Any:
    if issues is None:
        return ()
    return zip(lists.flagged, issues["given"], issues["suggested"], issues["score"], strict=True)


def _pairs(doubles: NearDuplicates) -> NDArray[np.float64]:
    """Return each pair once, the most alike first; of equals those of different groups first.

    A hundred copies of one row are one pair here: the others are in the file.
    """
    a, b = doubles.rows, doubles.nearest
    low, high = np.minimum(a, b), np.maximum(a, b)
    _, first = np.unique(doubles.group, return_index=True)
    first = first[np.lexsort((first, -doubles.similarity[first]))][:MOST_PAIRS]
    return np.stack([low[first], high[first], doubles.similarity[first]], axis=1).astype(float)


def _duplicates(result: ClusterResult, items: Items, lists: Lists) -> dict[str, Any]:
    doubles = lists.doubles
    if doubles is None or not len(doubles.rows):
        return {"rows": 0, "groups": 0, "pairs": [], "table": []}
    ids = result.ids
    size = np.bincount(doubles.group)
    group_of = dict(zip(doubles.rows.tolist(), doubles.group.tolist(), strict=True))
    pairs = [
        {
            "similarity": round(float(cosine), 4),
            "alike": int(size[group_of[int(a)]]),
            "rows": [example(result, items, int(a)), example(result, items, int(b))],
        }
        for a, b, cosine in lists.pairs
    ]
    whole = zip(doubles.rows, doubles.group, doubles.nearest, doubles.similarity, strict=True)
    table = [
        [str(ids[row]), int(group), str(ids[near]), round(float(cosine), 4)]
        for row, group, near, cosine in islice(whole, MOST_EXPORTED)
    ]
    return {"rows": len(doubles.rows), "groups": len(size), "pairs": pairs, "table": table}
