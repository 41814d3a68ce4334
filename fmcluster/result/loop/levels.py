r"""How many clusters? Most data have several right answers: levels, each nested in the next.

The tree (`fmcluster.partition.hierarchy`) goes through the result's own clusters: above them they
are merged, below them each falls into k-means leaves of its own rows, which are merged into its
parts. The numbers worth looking at are the knees of the score over the whole tree.

A coarser level is one merge (`fmcluster.result.loop.edits`): probabilities add up. A finer one is a
split of each cluster that falls apart there,

.. math::

    p(part) = p(cluster) \sum_{leaf \in part} \mathrm{softmax}_{leaf}(\cos(x, c_{leaf}) / T),

T such that the parts of a row's neighbors are predicted best. Labels follow the nearest leaf, so
that levels never cross each other. Either is then calibrated without labels. All are edits: logged,
saved and repeated on new rows.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.calibration import Calibrator, label_free
from fmcluster.functional.softmax import softmax
from fmcluster.heads.kmeans import KMeansHead, grouped_proba
from fmcluster.partition.hierarchy import Hierarchy, build_hierarchy, hierarchy_of_graph, knees
from fmcluster.partition.mini_clusters import group_sums
from fmcluster.result.editing.apply import edited
from fmcluster.result.editing.steps import Move, Recalibrate, Split
from fmcluster.result.loop.level_names import with_level_names
from fmcluster.utils.errors import CollapseWarning
from fmcluster.utils.random import seed_of
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import (
    JointRows,
    Rows,
    as_spaces,
    count_distinct,
    one_or_list,
    sample_indices,
    zero_rows,
)

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# The tree is made of so many rows at most: the time of all of it.
TREE_ROWS = 20_000
# As wherever partitions are scored.
N_NEIGHBORS = 10
# As far as `n_clusters="auto"` looks; or twice the clusters that there are.
FINEST = 200
# Rows a cluster at the finest level: of fewer, neighbors tell no clusters.
ROWS_PER_CLUSTER = 8
# Leaves for each cluster of the finest level, of at least so many rows each.
LEAVES_PER_CLUSTER, ROWS_PER_LEAF = 3, 3
# Leaves are many: where one or the other lies moves no cluster.
LEAF_ROUNDS = 8
# Temperatures that are tried, times that of the leaves: sharper to even.
SOFTER = np.geomspace(1 / 8, 8, 19)


@dataclass(frozen=True)
class Level:
    """One answer to how many clusters there are.

    Attributes
    ----------
    n_clusters : int
        The number.
    score : float
        Modularity plus simplified silhouette of the rows in so many clusters; without embeddings
        modularity alone.
    is_best : bool
        The number that ``n_clusters="auto"`` chose, else the one of the highest score.
    """

    n_clusters: int
    score: float
    is_best: bool = False


@dataclass(frozen=True)
class LevelTree:
    """The tree of a result and what its finer levels are made with.

    Attributes
    ----------
    hierarchy : Hierarchy
        Of `rows`.
    rows : (m,) int64
        Rows of the result that the tree is made of.
    graph : KNNGraph
        Their neighbors.
    x : (m, d) float32 or None
        Their unit rows, the spaces side by side; None where only the graph is at hand.
    heads : tuple of KMeansHead or None
        What cuts each cluster into its leaves, in their order; None for one leaf. Empty without
        embeddings.
    """

    hierarchy: Hierarchy
    rows: NDArray[np.int64]
    graph: KNNGraph
    x: NDArray[np.float32] | None = None
    heads: tuple[KMeansHead | None, ...] = ()


def level_tree(result: ClusterResult) -> LevelTree:
    """Return the merge tree of a result, made once.

    Raises
    ------
    ValueError
        Neither embeddings nor graph are at hand.
    """
    if result.embeddings is None:
        return _tree_of_sample(result) or _tree_of_graph(result)
    spaces = as_spaces(result.embeddings)
    whole = JointRows(spaces)
    kept = _some_rows(result)
    x = whole[kept]
    graph = result.graph
    if graph is None or len(kept) < result.n_rows or graph.n_rows != result.n_rows:
        graph = KNNGraph.build(x, k=N_NEIGHBORS)
    graph = graph.take(min(N_NEIGHBORS, graph.k))
    k = result.n_clusters
    finest = max(k, min(max(FINEST, 2 * k), len(kept) // ROWS_PER_CLUSTER))
    heads, leaves = _cut_clusters(result, spaces, kept, finest)
    n_leaves = [1 if head is None else head.n_clusters_ for head in heads]
    cluster_of_leaf = np.repeat(np.arange(k), n_leaves)
    hierarchy = build_hierarchy(x, leaves, cluster_of_leaf, graph)
    return LevelTree(hierarchy, kept, graph, x, heads)


def levels(result: ClusterResult) -> tuple[Level, ...]:
    """Return the numbers of clusters worth looking at, coarse to fine, its own among them.

    A level is where ever more clusters gain less from then on: a knee of the score over the merge
    tree. Clusters of a finer level split those of a coarser one and never cross them. Of a loaded
    result only levels coarser than its own are known, by the rows that are saved with it or by the
    graph; `attach` gives the others.

    Raises
    ------
    ValueError
        Neither embeddings nor graph are at hand.
    """
    hierarchy, own = result._level_tree.hierarchy, result.n_clusters
    if own == 1 and hierarchy.n_leaves == 1:
        return (Level(1, 0.0, True),)
    n_rows = len(hierarchy.leaves)
    finest = max(own, min(max(FINEST, 2 * own), n_rows // ROWS_PER_CLUSTER))
    ks, scores = hierarchy.curve(finest if hierarchy.n_leaves > own else own)
    found = knees(ks, scores, own)
    score = dict(zip(ks.tolist(), scores.tolist(), strict=True))
    best = own if _was_chosen(result) else max(found, key=score.__getitem__)
    return tuple(Level(k, score[k], k == best) for k in found)


def tree(result: ClusterResult) -> NDArray[np.float64]:
    """Scipy linkage (k - 1, 4) over the clusters: ``scipy.cluster.hierarchy.dendrogram`` draws it.

    A height is one minus the mean cosine between the rows of the two that are joined, and never
    below that of a join before it; without embeddings, one minus their share of edges over the
    largest such share.

    Raises
    ------
    ValueError
        Neither embeddings nor graph are at hand.
    """
    made, k = result._level_tree, result.n_clusters
    labels = result.labels[made.rows]
    if made.x is not None:
        sums = group_sums(made.x, labels, k)
        alike = sums @ sums.T
    else:
        counted = labels[:, None] * k + labels[made.graph.indices]
        alike = np.bincount(counted.ravel(), minlength=k * k).reshape(k, k).astype(float)
        alike = alike + alike.T
    member = np.concatenate([np.eye(k), np.zeros((max(k - 1, 0), k))])
    rows = np.maximum(np.bincount(labels, minlength=k), 1)
    out = np.zeros((k - 1, 4))
    for t, (a, b) in enumerate(made.hierarchy.upper):
        member[k + t] = member[a] + member[b]
        pairs = (member[a] @ rows) * (member[b] @ rows)
        out[t] = a, b, member[a] @ alike @ member[b] / pairs, member[k + t].sum()
    if k > 1 and made.x is None:
        out[:, 2] /= max(out[:, 2].max(), 1e-12)
    out[:, 2] = np.maximum.accumulate(np.maximum(1 - out[:, 2], 0))
    return out


def at_level(result: ClusterResult, n_clusters: int) -> ClusterResult:
    """Return the same rows in another number of clusters: unions of the clusters, or parts of them.

    Every number has an answer, not only `levels`. A finer level splits the clusters that fall apart
    first, one edit each; a coarser one is a single edit. One more calibrates the confidence.
    Clusters of texts that a level joins or parts are named anew, but where a person named them.

    Parameters
    ----------
    n_clusters : int
        From 1 to as many as the rows were cut into; above the result's own embeddings are needed.

    Raises
    ------
    ValueError
        `n_clusters` is out of range, or what it needs is not at hand.
    """
    if isinstance(n_clusters, bool) or not isinstance(n_clusters, (int, np.integer)):
        raise TypeError(f"n_clusters must be a whole number, got {n_clusters!r}")
    made, own = result._level_tree, result.n_clusters
    if n_clusters > own and result.embeddings is None:
        raise ValueError(
            f"n_clusters={n_clusters} splits clusters, which needs the embeddings, and a loaded "
            "result has none: give them by result.attach(embeddings)"
        )
    most = made.hierarchy.n_leaves
    if not 1 <= n_clusters <= most:
        raise ValueError(f"n_clusters={n_clusters} is outside 1..{most}, the levels of this tree")
    if n_clusters == own:
        return result
    groups = made.hierarchy.cut(int(n_clusters))
    if n_clusters > own:
        level = _split(result, made, groups)
    else:
        of = groups[np.unique(made.hierarchy.cluster_of_leaf, return_index=True)[1]]
        joined = [tuple(np.flatnonzero(of == g).tolist()) for g in range(int(n_clusters))]
        level = result.merge([g for g in joined if len(g) > 1])
    return recalibrated_by_neighbors(with_level_names(result, level))


def recalibrated_by_neighbors(result: ClusterResult) -> ClusterResult:
    """Return a result whose confidence was calibrated without labels after its edits: one more.

    What is confused within a union is no error any more, and whether clusters were rightly joined
    or parted is in no probability: base partitions of the same number tell (`label_free`). Left as
    it is where nothing was calibrated, where labels or moved rows say more, and without embeddings.
    """
    about = result.provenance.get("calibration") or {}
    told = any(isinstance(step, (Move, Recalibrate)) for step in result.pipeline.edits)
    unsaid = result.embeddings is None or not about or about.get("n_labels")
    if told or unsaid or result.n_clusters == 1:
        return result
    rows = _some_rows(result)
    fitted = label_free(
        result.proba[rows],
        spaces=[Rows(space[rows]) for space in as_spaces(result.embeddings)],
        labels=result.labels[rows],
        random_state=_seed(result, "calibration"),
    )
    # New rows pass here by their probabilities alone.
    curves = {"score": fitted.curves["own"]}
    calibrator = Calibrator("regions", fitted.level, curves=curves)
    return edited(result, Recalibrate(calibrator, (), {"ids": None}, about))


def _some_rows(result: ClusterResult) -> NDArray[np.int64]:
    """Return the rows with a cluster, or an even part of them in which every cluster is."""
    kept = np.flatnonzero(result.labels >= 0)
    if len(kept) <= TREE_ROWS:
        return kept
    some = kept[sample_indices(kept, TREE_ROWS, _seed(result, "rows"))]
    first = np.unique(result.labels[kept], return_index=True)[1]
    return np.union1d(some, kept[first])


def _split(result: ClusterResult, made: LevelTree, groups: NDArray[np.int64]) -> ClusterResult:
    """Return the result with every cluster split into the groups of its leaves."""
    spaces = as_spaces(result.embeddings)
    hierarchy = made.hierarchy
    rows_of_leaf = np.bincount(hierarchy.leaves, minlength=hierarchy.n_leaves)
    for cluster, head in enumerate(made.heads):
        inside = np.flatnonzero(hierarchy.cluster_of_leaf == cluster)
        found, part = np.unique(groups[inside], return_inverse=True)
        if head is None or len(found) == 1:
            continue
        order = np.argsort(-np.bincount(part, rows_of_leaf[inside]), kind="stable")
        part = np.argsort(order)[part].astype(np.int64)  # the largest first
        split = head.grouped(part, temperature=_temperature(made, cluster, head, part))
        step = Split(cluster, tuple(range(len(found))), split)
        parts = step.parts(spaces)
        weights = result.proba[:, cluster].astype(np.float64) @ parts
        step = dataclasses.replace(step, part_shares=tuple((weights / weights.sum()).tolist()))
        result = edited(result, step, parts)
    return result


def _temperature(made: LevelTree, cluster: int, head: KMeansHead, part: NDArray[np.int64]) -> float:
    """Return the temperature whose parts of a row best predict those of its neighbors."""
    assert made.x is not None
    of_row = made.hierarchy.cluster_of_leaf[made.hierarchy.leaves]
    at = np.flatnonzero(of_row == cluster)
    first = int(np.flatnonzero(made.hierarchy.cluster_of_leaf == cluster)[0])
    part_of_row = np.full(len(of_row), -1)
    part_of_row[at] = part[made.hierarchy.leaves[at] - first]
    near = part_of_row[made.graph.indices[at]]
    told = np.stack([(near == p).sum(axis=1) for p in range(int(part.max()) + 1)], axis=1)
    cosines = made.x[at].astype(np.float64) @ head.cluster_centers_.T.astype(np.float64)
    best, least = head.temperature_, np.inf
    for factor in SOFTER:
        p = grouped_proba(softmax(cosines / (factor * head.temperature_)), part)
        loss = -float((told * np.log(np.maximum(p, 1e-12))).sum())
        if loss < least:
            best, least = factor * head.temperature_, loss
    return float(best)


def _cut_clusters(
    result: ClusterResult, spaces: list[Rows], kept: NDArray[np.int64], finest: int
) -> tuple[tuple[KMeansHead | None, ...], NDArray[np.int64]]:
    """Cut each cluster into leaves; return what cuts it and the leaf of each of the rows `kept`."""
    labels = result.labels[kept]
    leaves, first = np.empty(len(kept), np.int64), 0
    heads: list[KMeansHead | None] = []
    for cluster in range(result.n_clusters):
        at = np.flatnonzero(labels == cluster)
        inside = [Rows(space[kept[at]]) for space in spaces]
        wanted = int(np.ceil(LEAVES_PER_CLUSTER * finest * len(at) / len(kept)))
        wanted = min(wanted, len(at) // ROWS_PER_LEAF) if finest > result.n_clusters else 1
        if wanted > 1:  # a row of zeros lies nowhere, and starts no leaf
            known = ~zero_rows(inside)
            there = [Rows(space[known]) for space in inside]
            wanted = min(wanted, count_distinct(JointRows(there), wanted))
        head = None if wanted < 2 else _leaf_head(inside, wanted, _seed(result, "leaves", cluster))
        leaves[at] = first + (0 if head is None else head.labels_)
        first += 1 if head is None else head.n_clusters_
        heads.append(head)
    return tuple(heads), leaves


def _leaf_head(inside: list[Rows], n_leaves: int, seed: int) -> KMeansHead:
    head = KMeansHead(n_leaves, n_init=1, max_iter=LEAF_ROUNDS, random_state=seed)
    with warnings.catch_warnings(action="ignore", category=CollapseWarning):
        return head.fit(one_or_list(inside))


def _tree_of_sample(result: ClusterResult) -> LevelTree | None:
    """Return the tree above the clusters by rows that are saved with the result; None without."""
    if result.reference is None:
        return None
    rows, k = result.reference.rows, result.n_clusters
    labels = result.labels[rows]
    x = result.reference.x[labels >= 0].astype(np.float32)
    rows, labels = rows[labels >= 0], labels[labels >= 0]
    if len(np.unique(labels)) < k or len(rows) < 2:
        return None
    graph = KNNGraph.build(x, k=N_NEIGHBORS)
    hierarchy = build_hierarchy(x, labels, np.arange(k), graph)
    return LevelTree(hierarchy, rows, graph, x)


def _tree_of_graph(result: ClusterResult) -> LevelTree:
    """Return the tree above the clusters where only the graph is at hand."""
    graph, labels = result.graph, result.labels
    if graph is None:
        raise ValueError(
            "levels need the embeddings or the neighbor graph, and the result has neither: give "
            "embeddings by result.attach(embeddings)"
        )
    kept = labels >= 0
    if not kept.all():
        # An edge to a row of no cluster tells nothing: it is turned on its own row.
        place = np.cumsum(kept) - 1
        near = np.where(kept[graph.indices], graph.indices, np.arange(len(labels))[:, None])[kept]
        graph = KNNGraph(place[near], graph.similarities[kept], graph.method, graph.recall)
    rows = np.flatnonzero(kept)
    hierarchy = hierarchy_of_graph(labels[rows], result.proba[rows], graph)
    return LevelTree(hierarchy, rows, graph)


def _was_chosen(result: ClusterResult) -> bool:
    """Return whether the number of clusters is the one that "auto" chose."""
    params = result.provenance.get("head", {}).get("params", {})
    edited_number = result.n_clusters != result.head.n_clusters_
    return params.get("n_clusters") == "auto" and not edited_number


def _seed(result: ClusterResult, *stream: Any) -> int:
    """Return a seed that is the result's."""
    return seed_of(int(result.provenance.get("random_state") or 0), "levels", *stream)
