"""What a fit was asked, refused before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.utils.validation import check_counts
from fmcluster.vectors.graph import KNNGraph

if TYPE_CHECKING:
    from fmcluster.heads.base import ClusterHead


def check_asked(
    head: ClusterHead, n_rows: int, graph: KNNGraph | None, answers: RowAnswers | None
) -> None:
    """Check a head's counts, that a graph is of the rows, and answers that the head takes.

    Raises
    ------
    TypeError
        An argument that counts is no whole number.
    ValueError
        A graph of other rows; answers of a kind that the head does not take.
    """
    check_counts(head)
    if graph is not None and graph.n_rows != n_rows:
        raise ValueError(f"the graph has {graph.n_rows} rows, X has {n_rows}: rebuild it")
    if answers is None:
        return
    links = len(answers.must_link) + len(answers.cannot_link) > 0
    given = {"labels": len(answers.rows) > 0, "links": links}
    for kind in [kind for kind in given if given[kind] and kind not in head.takes_answers]:
        raise ValueError(
            f"head {head.name!r} takes no {kind}: 'auto' takes labels and links"
            + (", 'kmeans', 'scan', 'cdc', 'p2ot' and 'sp2ot' labels" * (kind == "labels"))
        )
