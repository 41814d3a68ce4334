r"""The toolkit's own head: partitions of many families, refined, scored and joined in one vote.

1. *Rows.* The spaces side by side, unit length, less :math:`(1 - \max_r s_r)` of their mean, unit
   length again: a common direction carries no cluster, but the mean of skewed clusters is that of
   the largest, whose share is max s, and without it the largest falls apart. The sizes s are
   estimated beforehand (`partition.estimates.sizes`).
2. *Nodes.* The neighbor graph, made coarser (`partition.nodes`): what follows sees a few thousand
   of them, however many rows there are, and small groups keep nodes of their own.
3. *Starts.* k-means, mini-clusters merged by average, Ward and graph linkage: no family is right
   for all data (`starts`).
4. *Refinement*, closed form, ten rounds: turns of a linear classifier and the neighbor graph,

   .. math:: P \propto \exp(\beta (x W_Q + b_Q))\, m^{\,a}, \quad
             Q \propto P^{1-\gamma} (S P)^\gamma, \quad a = I(Q; SQ) / H(m)

   with sizes m that are learned as far as neighbors tell labels, or kept (`partition.refine`).
   The best starts are refined once more with equal sizes imposed.
5. *Vote* of the partitions, weighted by their silhouettes and by what speaks for their sizes: sizes
   are a distribution, estimated ones or balanced ones, and none is imposed (`vote`).
6. *Student*, landmarks times a discriminant, on all rows: probabilities for any row (`student`).
7. *Level.* The mean confidence is that of the vote times how far partitions of two halves agree,
   to a power of at most 3/4 (`agreement`); as far as sizes are even, no less than .95 of the
   student's own; and not above :math:`1 - \tfrac12 \sum_r |s_r - q_r|`: if the true sizes are s
   and the partition's are q, both sorted, no more of the rows can be right.
"""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.auto.agreement import discount, split_agreement
from fmcluster.heads.auto.answered import answer
from fmcluster.heads.auto.candidates import make_candidates
from fmcluster.heads.auto.held import cut_up, hold, say_little
from fmcluster.heads.auto.points import Points, points_of
from fmcluster.heads.auto.spaces import choose_space, only
from fmcluster.heads.auto.student import Student
from fmcluster.heads.auto.unanswered import Unanswered, after_links, student_of
from fmcluster.heads.auto.vote import balance_evidence, support, voted
from fmcluster.heads.base import ClusterHead
from fmcluster.partition.estimates.sizes import shares_by_rank, size_profile
from fmcluster.partition.nodes import coarsen, node_context
from fmcluster.partition.refine import RefinementContext
from fmcluster.utils.blocks import picked
from fmcluster.utils.validation import check_in, check_prior, check_range
from fmcluster.vectors.faiss_index import one_blas_thread
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.pca import principal_axes
from fmcluster.vectors.rows import joint, unit_rows

logger = logging.getLogger(__name__)

PRIORS = ("auto", "uniform", "estimate")
# Partitions are made of so many nodes: of fewer, rows of two classes share one (log, 33).
MAX_NODES = 4_000
# No partition has more clusters than nodes; to choose them there are some for each.
NODES_PER_CLUSTER = 2
Floats = NDArray[np.float64]


@dataclass(eq=False, repr=False)
class AutoHead(ClusterHead):
    """The default head: a vote of refined partitions of many families.

    Parameters
    ----------
    cluster_prior : {"auto", "uniform", "estimate"} or (k,) array
        Sizes of the clusters: "auto" tests whether they are balanced, "uniform" makes them so,
        "estimate" learns them, an array (given out by rank) is kept.
    max_rows : int
        More rows than these are joined to as many nodes by their neighbor graph.

    Attributes
    ----------
    even_sizes_ : bool
        Whether balanced sizes were imposed, or are likelier than not.
    families_ : dict of str to float
        Score of each partition that was made.
    space_ : int or None
        The only one of several spaces that is looked at, None where all are.
    """

    name = "auto"
    self_calibrated = True
    takes_answers = ("labels", "links")

    n_clusters: int | str = "auto"
    _: KW_ONLY
    cluster_prior: Any = "auto"
    # Time and memory of the student and of answers, which see all of them.
    max_rows: int = 30_000

    def _fit(self, data: HeadData) -> None:
        check_range(self.max_rows, "max_rows", low=2)
        self.answered_: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
        with one_blas_thread():
            whole, data = data, self._weighed(data)
            context, kept = self._unanswered(data)
            V, expected = kept.votes, kept.expected
            if data.answers is not None:
                V = self._answer(context, kept, data)
                whole.n_clusters = data.n_clusters
                expected = float(np.average(V.max(axis=1), weights=context.weights))
            self.student_, shares = student_of(
                context, kept, V, expected, seed=data.seed("student")
            )
            self.cluster_prior_: NDArray[Any] = shares
            if data.answers is not None:
                # What answers make of the rows is nearer to the truth than what its student does.
                self.cluster_prior_ = np.average(V, axis=0, weights=context.weights)
            elif kept.sizes is not None:
                self.cluster_prior_ = shares_by_rank(kept.sizes, shares)

    def _weighed(self, data: HeadData) -> HeadData:
        """Return the data with the spaces to look at."""
        kept = self.__dict__.get("start_")
        if kept is not None and len(kept.points.of_row) == data.n_rows:
            self.space_ = kept.space
        else:
            self.space_ = choose_space(data) if len(data.spaces) > 1 else None
        if self.space_ is not None:
            logger.info("of %d spaces, number %d alone is used", len(data.spaces), self.space_)
        return only(data, self.space_)

    def _unanswered(self, data: HeadData) -> tuple[RefinementContext, Unanswered]:
        """Return what the rows say by themselves, kept for the next answers."""
        kept = self.__dict__.pop("start_", None)
        if kept is not None and len(kept.points.of_row) == data.n_rows:
            self.centre_, self.axes_ = kept.centre, kept.axes
            self.families_, self.even_sizes_ = kept.families, kept.even > 0.5
            context = self._context(kept.points, data)
        else:
            context, kept = self._partitioned(data)
        self.unanswered_ = kept
        return context, kept

    def _partitioned(self, data: HeadData) -> tuple[RefinementContext, Unanswered]:
        """Partition the rows by all families and let the partitions vote."""
        k, prior = data.n_clusters, self.cluster_prior
        shares = resolve_shares(prior, k)
        n_nodes = max(MAX_NODES, NODES_PER_CLUSTER * k)
        points = points_of(data, max(self.max_rows, NODES_PER_CLUSTER * k))
        raw = RefinementContext(points.rows, points.graph, weights=points.weights)
        node = coarsen(raw.affinity, n_nodes, sizes=points.weights)
        asked = not isinstance(prior, str) or prior == "uniform"
        estimated = None if asked else self._estimated(raw, node, data)
        known = shares if estimated is None else estimated
        assert known is not None
        self._center(points, largest=float(known.max()))
        context = self._context(points, data)
        few = node_context(context, node)
        candidates = make_candidates(few, k, shares, seed=data.seed("starts"))
        self.families_ = {c.name: c.score for c in candidates}
        held = [c for c in candidates if c.balanced]
        if asked:
            voters, sizes, even = held or candidates, None, float(bool(held))
            hypotheses = []
        else:
            assert estimated is not None
            even = balance_evidence(candidates, estimated) if prior == "auto" else 0.0
            voters = candidates
            hypotheses = [(1 - even, estimated), (even, np.full(k, 1 / k))]
            sizes = (1 - even) * estimated + even / k
        self.even_sizes_ = even > 0.5
        scores = np.full(len(candidates), -np.inf)
        voting = {id(c) for c in voters}
        scores[[id(c) in voting for c in candidates]] = support(voters, hypotheses, few.mass)
        made = [c.labels[node].astype(np.int32) for c in candidates]
        V = voted(context, made, scores, k, node)
        agreed = split_agreement(few, k, seed=data.seed("halves"), linkages=("ward", "average"))
        sure = float(np.average(V.max(axis=1), weights=context.weights))
        return context, Unanswered(
            points,
            self.centre_,
            self.axes_,
            node,
            made,
            scores,
            np.array([c.balanced for c in candidates]),
            V,
            sizes,
            sure * discount(agreed, len(few.rows) / k),
            even,
            self.families_,
            self.space_,
        )

    def _estimated(self, raw: RefinementContext, node: NDArray[np.int64], data: HeadData) -> Floats:
        """Return the estimated sorted shares of the clusters, of the rows as they are."""
        seed, k = data.seed("sizes"), data.n_clusters
        few = node_context(raw, node)
        found = np.full(k, 0.5 / data.n_rows)
        some = min(k, len(few.rows))
        if some < data.n_rows:
            averaged = unit_rows(few.rows + few.smoothing @ few.rows)
            smooth_ = None if few is raw and few.weights is None else averaged
            found[:some] = size_profile(
                few.rows, some, few.edges, smooth=smooth_, weights=few.weights, random_state=seed
            )
        return np.sort(found / found.sum())[::-1]

    def _answer(
        self, context: RefinementContext, kept: Unanswered, data: HeadData
    ) -> NDArray[np.float32]:
        """Return soft labels (m, k') that hold the answers, and keep them."""
        assert data.answers is not None
        answers = kept.points.answers(data.answers)
        edited = self.__dict__.pop("edited_", None)
        if edited is not None:
            V = kept.points.mean(edited)
        else:
            if len(answers.must_link) + len(answers.cannot_link):
                kept = after_links(context, kept, answers)
            if kept.proba is None:
                seed = data.seed("student")
                student, _ = student_of(context, kept, kept.votes, kept.expected, seed=seed)
                kept.proba = student.proba(context.rows).astype(np.float32)
            V = kept.proba
        V = V.astype(np.float32)
        found = None if len(answers.rows) else hold(V, answers)
        if found is None or not say_little(answers, data.n_clusters):
            refined = answer(
                context,
                V,
                answers,
                data.n_clusters,
                others=[labels.astype(np.int64) for labels in kept.candidates],
                exact=self.n_clusters != "auto",
                even=kept.even > 0.5,
            )
            if found is None or not cut_up(context, found.proba, refined.proba):
                found = refined
        self.answered_ = kept.points.of_row, found.proba
        if found.proba.shape[1] < data.n_clusters:
            logger.info(
                "of %d clusters %d remain: no other rows look like one that the answers leave",
                data.n_clusters,
                found.proba.shape[1],
            )
        data.n_clusters = found.proba.shape[1]
        return found.proba

    def fit_answered(
        self,
        before: ClusterHead,
        X: Any,
        answers: RowAnswers,
        *,
        graph: KNNGraph | None = None,
        edited: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """As the base's; partitions and graph of `before` serve again, where it still has them."""
        kept = getattr(before, "unanswered_", None)
        if kept is not None:
            self.start_ = kept
        if edited is not None:
            self.edited_ = edited
        return super().fit_answered(before, X, answers, graph=graph)

    def of_own_rows(self, proba: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the base's: what answers made of the rows, which a student carries only so far."""
        answered, kept = getattr(self, "answered_", None), getattr(self, "unanswered_", None)
        if answered is None:
            if kept is not None:
                kept.proba = kept.points.mean(proba)
            return proba
        of_row, found = answered
        return picked(found[:, self.columns_], of_row)

    def _resolve_n_clusters(self, data: HeadData) -> int:
        start = self.__dict__.get("start_")
        if start is None or data.answers is None or self.n_clusters != "auto":
            return super()._resolve_n_clusters(data)
        edited = self.__dict__.get("edited_")
        known = start.votes if edited is None else edited
        return max(known.shape[1], data.answers.n_classes)

    def _center(self, points: Points, *, largest: float) -> None:
        """Learn what is taken from the rows: the less of their mean, the larger a cluster is."""
        mean = np.average(points.rows, axis=0, weights=points.weights)
        self.centre_ = ((1 - largest) * mean).astype(np.float32)
        self.axes_ = principal_axes(points.rows - self.centre_)

    def _context(self, points: Points, data: HeadData) -> RefinementContext:
        rows = self._project(points.rows)
        return RefinementContext(rows, points.graph, data.seed("slope"), weights=points.weights)

    def _project(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        centered = rows - self.centre_
        return unit_rows(centered @ self.axes_ if self.axes_.size else centered)

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        space = self.space_
        return self.student_.proba(self._project(joint(xs if space is None else [xs[space]])))

    def _state(self) -> dict[str, NDArray[Any]]:
        arrays = {field.name: getattr(self.student_, field.name) for field in fields(Student)}
        space = np.array([] if self.space_ is None else [self.space_], np.int64)
        return arrays | {"centre": self.centre_, "axes": self.axes_, "space": space}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        arrays = dict(arrays)
        self.centre_, self.axes_ = arrays.pop("centre"), arrays.pop("axes")
        space = arrays.pop("space", np.array([], np.int64))  # of 0.1: there is none
        self.space_ = int(space[0]) if len(space) else None
        self.student_ = Student(**arrays)


def resolve_shares(cluster_prior: Any, n_clusters: int) -> NDArray[np.float64] | None:
    """Return the sizes to impose or to test ("auto": equal ones), None where they are learned."""
    if not isinstance(cluster_prior, str):
        return np.asarray(check_prior(cluster_prior, n_clusters))
    check_in(cluster_prior, PRIORS, "cluster_prior")
    return None if cluster_prior == "estimate" else np.full(n_clusters, 1 / n_clusters)
