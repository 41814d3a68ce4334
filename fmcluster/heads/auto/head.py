r"""The toolkit's own head: partitions of many families, refined, scored and joined in one vote.

1. *Rows.* The spaces side by side, unit length, less :math:`(1 - \max_r s_r)` of their mean, unit
   length again: a common direction carries no cluster, but the mean of skewed clusters is that of
   the largest, whose share is max s, and without it the largest falls apart. The sizes s are
   estimated beforehand (`partition.estimates.sizes`).
2. *Starts.* k-means, mini-clusters merged by average, Ward and graph linkage, spectral clustering:
   no family is right for all data (`starts`).
3. *Refinement*, closed form, ten rounds: turns of a linear classifier and the neighbor graph,

   .. math:: P \propto \exp(\beta (x W_Q + b_Q))\, m^{\,a}, \quad
             Q \propto P^{1-\gamma} (S P)^\gamma, \quad a = I(Q; SQ) / H(m)

   with sizes m that are learned as far as neighbors tell labels, or kept (`partition.refine`).
   The families that score best are drawn and refined again, for their starts are chance.
4. *Are clusters balanced?* The best starts are refined once more with equal sizes imposed. If that
   costs little of the best score, and if the estimated sizes look balanced too, they are
   (`vote`).
5. *Vote* of the partitions, weighted by their scores, smoothed over neighbors.
6. *Student*, landmarks times a discriminant: probabilities for any row (`student`).
7. *Bound.* If the true sizes are s and the partition's are q, both sorted, then no way to match
   clusters with classes is right on more than :math:`1 - \tfrac12 \sum_r |s_r - q_r|` of the rows.
   Mean confidence is brought down to that where it is above it, with the estimated sizes for s.
"""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads.auto.answered import answer
from fmcluster.heads.auto.candidates import make_candidates
from fmcluster.heads.auto.student import Student, teach
from fmcluster.heads.auto.vote import sizes_look_balanced, smooth, vote
from fmcluster.heads.base import ClusterHead
from fmcluster.partition.estimates.sizes import estimate_sizes, evenness, shares_by_rank
from fmcluster.partition.kmeans import nearest_centroid
from fmcluster.partition.refine import RefinementContext
from fmcluster.partition.scores import Candidate
from fmcluster.utils.validation import check_in, check_prior, check_range
from fmcluster.vectors.faiss_index import one_blas_thread
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.pca import principal_axes
from fmcluster.vectors.rows import joint, unit_rows

logger = logging.getLogger(__name__)

PRIORS = ("auto", "uniform", "estimate")
# 20 move cifar10_test by up to three points, others by less than one: benchmarks/results/auto,
# log, 28.
N_NEIGHBORS = 10


@dataclass
class Unanswered:
    """What a fit makes of the rows before any answer, kept in memory for the next answers.

    Attributes
    ----------
    n_rows : int
        Rows of the data.
    index : (m,) int64
        Those that it saw, ascending.
    graph : KNNGraph
        Their neighbors.
    centre, axes : arrays
        What makes the head's rows of the data's.
    candidates : list of (m,) int32
        The partitions.
    votes : (m, k) float32
    sizes : (k,) float64 or None
        Estimated sorted shares.
    families, even_sizes
        Attributes of the head.
    proba : (m, k) float32 or None
        What the head says of its rows, once it has said it.
    """

    n_rows: int
    index: NDArray[np.int64]
    graph: KNNGraph
    centre: NDArray[np.float32]
    axes: NDArray[np.float32]
    candidates: list[NDArray[np.int32]]
    votes: NDArray[np.float32]
    sizes: NDArray[np.float64] | None
    families: dict[str, float]
    even_sizes: bool
    proba: NDArray[np.float32] | None = None


@dataclass(eq=False, repr=False)
class AutoHead(ClusterHead):
    """The default head: a vote of refined partitions of many families.

    Parameters
    ----------
    cluster_prior : {"auto", "uniform", "estimate"} or (k,) array
        Sizes of the clusters: "auto" tests whether they are balanced, "uniform" makes them so,
        "estimate" learns them, an array (given out by rank) is kept.
    max_rows : int
        More rows than these are fitted on a random part and predicted.

    Attributes
    ----------
    even_sizes_ : bool
        Whether balanced sizes were imposed.
    families_ : dict of str to float
        Score of each partition that was made.
    """

    name = "auto"
    self_calibrated = True
    takes_answers = ("labels", "links")
    own_neighbors = True  # of rows less their mean, which is no neighborhood of theirs

    n_clusters: int | str = "auto"
    _: KW_ONLY
    cluster_prior: Any = "auto"
    # Time and memory: every partition is refined on all of them.
    max_rows: int = 30_000

    def _fit(self, data: HeadData) -> None:
        check_range(self.max_rows, "max_rows", low=2)
        self.answered_: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
        with one_blas_thread():
            context, kept = self._unanswered(data)
            V, estimated = kept.votes, kept.sizes
            if data.answers is not None:
                V = self._answer(context, kept, data)
                estimated = None
            seed = data.seed("student")
            self.student_, proba, shares = bounded_student(context, V, estimated, seed=seed)
            self.cluster_prior_: NDArray[Any] = shares
            if data.answers is not None:
                # What answers make of the rows is nearer to the truth than what its student does.
                self.cluster_prior_ = V.mean(axis=0, dtype=np.float64)
                self.student_.bound(proba, float(V.max(axis=1).mean()))
            elif estimated is not None and not self.even_sizes_:
                self.cluster_prior_ = shares_by_rank(estimated, shares)

    def _unanswered(self, data: HeadData) -> tuple[RefinementContext, Unanswered]:
        """Return what the rows say by themselves, kept for the next answers."""
        shares = resolve_shares(self.cluster_prior, data.n_clusters)
        kept = self.__dict__.pop("start_", None)
        if kept is not None and kept.n_rows == data.n_rows:
            self.centre_, self.axes_ = kept.centre, kept.axes
            self.families_, self.even_sizes_ = kept.families, kept.even_sizes
            rows = self._project(data.joint[kept.index])
            context = RefinementContext(rows, kept.graph, data.seed("slope"))
        else:
            estimates = isinstance(self.cluster_prior, str) and self.cluster_prior != "uniform"
            estimated = estimate_sizes(data) if estimates else None
            known = [given for given in (estimated, shares) if given is not None]
            index, context = self._prepare(data, largest=float(known[0].max()))
            candidates = make_candidates(context, data.n_clusters, shares, seed=data.seed("starts"))
            self.families_ = {c.name: c.score for c in candidates}
            voters, self.even_sizes_ = select_voters(candidates, self.cluster_prior, estimated)
            V = smooth(context, vote(voters, data.n_clusters))
            kept = Unanswered(
                data.n_rows,
                index,
                context.graph,
                self.centre_,
                self.axes_,
                [c.labels.astype(np.int32) for c in candidates],
                V,
                estimated,
                self.families_,
                self.even_sizes_,
            )
        self.unanswered_ = kept
        return context, kept

    def _answer(
        self, context: RefinementContext, kept: Unanswered, data: HeadData
    ) -> NDArray[np.float32]:
        """Return soft labels (m, k') that hold the answers, and keep them."""
        assert data.answers is not None
        edited = self.__dict__.pop("edited_", None)
        if edited is not None:
            V = edited[kept.index]
        elif kept.proba is not None:
            V = kept.proba
        else:
            seed = data.seed("student")
            student, *_ = bounded_student(context, kept.votes, kept.sizes, seed=seed)
            V = kept.proba = student.proba(context.rows).astype(np.float32)
        found = answer(
            context,
            V.astype(np.float32),
            self._seen_answers(data.answers, kept, data),
            data.n_clusters,
            others=[labels.astype(np.int64) for labels in kept.candidates],
            exact=self.n_clusters != "auto",
        )
        self.answered_ = kept.index, found.proba
        if found.proba.shape[1] < data.n_clusters:
            logger.info(
                "of %d clusters %d remain: no other rows look like one that the answers leave",
                data.n_clusters,
                found.proba.shape[1],
            )
        data.n_clusters = found.proba.shape[1]
        return found.proba

    def _seen_answers(self, answers: RowAnswers, kept: Unanswered, data: HeadData) -> RowAnswers:
        """Return answers about the rows it saw: of the others the nearest ones stand for them."""
        if len(kept.index) == data.n_rows:
            return answers
        rows = answers.answered
        place = np.searchsorted(kept.index, rows).clip(max=len(kept.index) - 1)
        lost = np.flatnonzero(kept.index[place] != rows)
        if len(lost):
            seen = self._project(data.joint[kept.index])
            place[lost] = nearest_centroid(self._project(data.joint[rows[lost]]), seen)
        return answers.moved(rows, place)

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
                kept.proba = proba[kept.index]
            return proba
        index, found = answered
        proba = proba.copy()
        proba[index] = found[:, self.columns_]
        return proba

    def _resolve_n_clusters(self, data: HeadData) -> int:
        start = self.__dict__.get("start_")
        if start is None or data.answers is None or self.n_clusters != "auto":
            return super()._resolve_n_clusters(data)
        edited = self.__dict__.get("edited_")
        known = start.votes if edited is None else edited
        return max(known.shape[1], data.answers.n_classes)

    def _prepare(
        self, data: HeadData, *, largest: float
    ) -> tuple[NDArray[np.int64], RefinementContext]:
        """Center the (sampled) rows, less if one cluster is most of them; find their neighbors."""
        index = np.arange(data.n_rows)
        if data.n_rows > self.max_rows:
            order = np.random.default_rng(data.seed("rows")).permutation(data.n_rows)
            index = np.sort(order[: self.max_rows])
        rows = data.joint[index if len(index) < data.n_rows else slice(None)]
        common = (1 - largest) * rows.mean(axis=0, dtype=np.float64)
        self.centre_ = common.astype(np.float32)
        self.axes_ = principal_axes(rows - self.centre_)
        rows = self._project(rows)
        k = min(N_NEIGHBORS, len(rows) - 1)
        given = data.given_graph(k) if len(rows) == data.n_rows else None
        graph = KNNGraph.build(rows, k=k) if given is None else given
        return index, RefinementContext(rows, graph, data.seed("slope"))

    def _project(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        centered = rows - self.centre_
        return unit_rows(centered @ self.axes_ if self.axes_.size else centered)

    def _proba(self, xs: list[NDArray[np.float32]]) -> NDArray[np.floating]:
        return self.student_.proba(self._project(joint(xs)))

    def _state(self) -> dict[str, NDArray[Any]]:
        arrays = vars(self.student_)
        return arrays | {"centre": self.centre_, "axes": self.axes_}

    def _load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        arrays = dict(arrays)
        self.centre_, self.axes_ = arrays.pop("centre"), arrays.pop("axes")
        self.student_ = Student(**arrays)


def bounded_student(
    context: RefinementContext,
    V: NDArray[np.float32],
    sizes: NDArray[np.float64] | None,
    *,
    seed: int,
) -> tuple[Student, NDArray[np.float64], NDArray[np.float64]]:
    """Return the student of soft labels `V`, no surer than sorted shares `sizes` allow.

    With it what it said of the rows, (m, k), before it was bound, and the shares of its labels.
    """
    student = teach(context, V, seed=seed)
    proba = student.proba(context.rows)
    shares = np.bincount(proba.argmax(axis=1), minlength=V.shape[1]) / len(V)
    if sizes is not None:
        student.bound(proba, most_correct(shares, sizes))
    return student, proba, shares


def resolve_shares(cluster_prior: Any, n_clusters: int) -> NDArray[np.float64] | None:
    """Return the sizes to impose or to test ("auto": equal ones), None where they are learned."""
    if not isinstance(cluster_prior, str):
        return np.asarray(check_prior(cluster_prior, n_clusters))
    check_in(cluster_prior, PRIORS, "cluster_prior")
    return None if cluster_prior == "estimate" else np.full(n_clusters, 1 / n_clusters)


def most_correct(shares: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return the largest share of rows that a partition with `shares` can have right, 0..1."""
    return 1 - float(np.abs(np.sort(shares) - np.sort(true)).sum()) / 2


def select_voters(
    candidates: list[Candidate],
    cluster_prior: Any,
    estimated: NDArray[np.float64] | None,
) -> tuple[list[Candidate], bool]:
    """Return the partitions that vote, and whether they are those of imposed sizes."""
    free = [c for c in candidates if not c.balanced]
    held = [c for c in candidates if c.balanced]
    if isinstance(cluster_prior, str) and cluster_prior == "auto" and estimated is not None:
        refined = [c for c in free if "+" in c.name]
        impose = sizes_look_balanced(refined, held, evenness=evenness(estimated))
    else:
        impose = bool(held)
    return (held if impose else free), impose
