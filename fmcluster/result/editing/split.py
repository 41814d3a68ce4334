"""Split a cluster by the toolkit's own head, fitted on the rows of the cluster alone.

That head calibrates itself without labels and predicts new rows, whatever head made the result.
``into="auto"`` counts the clusters inside by the same score as everywhere (`estimates.number`) and
refuses where the rows have no more structure than one Gaussian.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.heads import make_head
from fmcluster.heads.base import ClusterHead
from fmcluster.partition.candidates import sample_with_graph
from fmcluster.partition.estimates.number import STRUCTURE, estimate_number
from fmcluster.result.editing.apply import check_cluster, edited
from fmcluster.result.editing.steps import Split
from fmcluster.result.naming import source_names
from fmcluster.result.naming.unique import found_names, unique_names
from fmcluster.utils.errors import CollapseWarning
from fmcluster.utils.random import seed_of
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.rows import JointRows, Rows, as_spaces, count_distinct, one_or_list

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Parts that "auto" may find: a cluster of more was no cluster.
MOST_PARTS = 20
# As wherever clusters are counted: fewer rows have no curve.
FEWEST_COUNTED = 8
# The second stands in where rows are so few that the first leaves a part empty.
SPLITTERS = ("auto", "kmeans")


def split(result: ClusterResult, cluster: int, *, into: int | str = 2) -> ClusterResult:
    r"""Return the result with one cluster split, :math:`p(part) = p(c)\, q_{part}(x)`.

    The largest part keeps the number, the others get the next numbers after the last. Parts are
    named after the terms of their texts where those are at hand, else "name / 1", "name / 2".

    Parameters
    ----------
    cluster : int
        Its number.
    into : int or "auto"
        Number of parts; "auto" estimates it.

    Raises
    ------
    ValueError
        No such cluster, fewer distinct rows than parts, no embeddings, or, of "auto", a cluster
        that does not fall apart.
    """
    c = check_cluster(result, cluster)
    _check_into(into)
    rows = np.flatnonzero(result.labels == c)
    n_asked = 2 if isinstance(into, str) else int(into)
    if len(rows) < n_asked:
        raise ValueError(f"cluster {c} has {len(rows)} row(s): it cannot be split into {n_asked}")
    if result.embeddings is None:
        raise ValueError(
            "the result has no embeddings, which a split needs: call "
            "result.attach(embeddings) first"
        )
    spaces = as_spaces(result.embeddings)
    if spaces[0].n_rows != result.n_rows:
        raise ValueError(
            f"the embeddings have {spaces[0].n_rows} rows, the result {result.n_rows}: attach "
            "those that it was made from"
        )
    inside = [Rows(space[rows]) for space in spaces]
    seed = seed_of(int(result.provenance.get("random_state") or 0), "split")
    n_parts = n_asked if not isinstance(into, str) else _count_parts(inside, c, seed)
    step = _fit(inside, c, n_parts, seed)
    parts = step.parts(spaces)
    weights = result.proba[:, c].astype(np.float64) @ parts
    step = dataclasses.replace(step, part_shares=tuple((weights / weights.sum()).tolist()))
    named = _part_names(edited(result, step, parts), step, result)
    return edited(result, dataclasses.replace(step, names=named), parts)


def _check_into(into: Any) -> None:
    if into == "auto":
        return
    if isinstance(into, bool) or not isinstance(into, (int, np.integer)):
        raise TypeError(f"into must be a whole number or 'auto', got {into!r}")
    if into < 2:
        raise ValueError(f"into={into} splits nothing: give at least 2, or 'auto'")


def _count_parts(inside: list[Rows], cluster: int, seed: int) -> int:
    """Estimate the number of parts; refuse where nothing says that there are several."""
    n = inside[0].n_rows
    if n < FEWEST_COUNTED:
        raise ValueError(
            f"cluster {cluster} has {n} rows, too few to count its parts (at least "
            f"{FEWEST_COUNTED}): give into=2, or how many"
        )
    if count_distinct(JointRows(inside), 2) < 2:
        raise ValueError(f"cluster {cluster} does not fall apart: its {n} rows are all the same")
    rows, graph = sample_with_graph(HeadData(inside, 2, seed, None))
    found = estimate_number(rows, graph, k_range=(2, MOST_PARTS), random_state=seed)
    if found.gain < STRUCTURE:
        raise ValueError(
            f"cluster {cluster} does not fall apart: splitting it scores {found.gain:.2f} above "
            f"one Gaussian, at least {STRUCTURE} tells parts; give into=2 to split it all the same"
        )
    return found.best


def _fit(inside: list[Rows], cluster: int, n_parts: int, seed: int) -> Split:
    """Fit a head on the cluster's rows and order its parts, largest first."""
    head, sizes = None, np.zeros(0, np.int64)
    for name in SPLITTERS:
        head, sizes = _fitted(name, inside, cluster, n_parts, seed)
        if len(sizes) == n_parts:
            break
    if head is None or len(sizes) < n_parts:
        raise ValueError(
            f"cluster {cluster} falls into {len(sizes)} part(s), {n_parts} were asked for: its "
            f"{inside[0].n_rows} rows are too few or too much alike; ask for fewer"
        )
    order = np.argsort(-sizes, kind="stable")
    return Split(cluster, tuple(order.tolist()), head)


def _fitted(
    name: str, inside: list[Rows], cluster: int, n_parts: int, seed: int
) -> tuple[ClusterHead, NDArray[np.int64]]:
    head = make_head(name, n_clusters=n_parts, random_state=seed)
    try:
        with warnings.catch_warnings(action="ignore", category=CollapseWarning):
            head.fit(one_or_list(inside))
    except ValueError as error:
        raise ValueError(f"cluster {cluster} cannot be split into {n_parts}: {error}") from None
    return head, np.bincount(head.labels_, minlength=head.n_clusters_)


def _part_names(after: ClusterResult, step: Split, result: ClusterResult) -> tuple[str, ...] | None:
    """Return names of the parts after their own texts; None where a person gave the old name."""
    if result.names is not None and result.names[step.cluster] not in found_names(result):
        return None
    names = source_names(after)
    if names is None:
        return None
    k = result.n_clusters
    places = [step.cluster, *range(k, k + len(step.order) - 1)]
    taken = [n for c, n in enumerate(result.names or ()) if c != step.cluster]
    return tuple(unique_names([names[place] for place in places], taken))
