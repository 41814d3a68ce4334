r"""What votes on training rows become for any row: landmarks times a linear discriminant.

Votes V (n, k) are carried by a few arrays, so that new rows need no graph:

.. math::

    p(x) \propto \Big(\sum_j \text{softmax}_j(\kappa \langle x, c_j\rangle)\, \bar V_j\Big)^{1/2}
                 \text{softmax}\big(\beta (x W + b)\big)^{1/2}

:math:`c_j` are mini-cluster centroids with the mean votes :math:`\bar V_j` of their rows, (W, b) is
the discriminant of the votes. The first factor knows shapes, the second knows directions and gives
large clusters no head start: it is what keeps small clusters alive.

Votes of one embedding agree too readily, so a probability is trusted as far as neighbors bear it
out: with :math:`r_j` the mean over a landmark's rows of the square root of the share of neighbors
(and itself) that got the row's label, and r(x) carried to x as the votes are,

.. math:: p'(x) = r(x)\, p(x) + (1 - r(x)) / k.

The largest of them, c, then becomes :math:`\sigma(0.8\,\mathrm{logit}\,c + s)`, the others in
proportion: s brings the mean confidence of the rows to what they are expected to have right
(`agreement`), and 0.8 the confidences of rows nearer to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fmcluster.functional.calibration import shift_to_mean, with_confidence
from fmcluster.functional.softmax import softmax
from fmcluster.partition.mini_clusters import group_sums, grouped, mini_clusters
from fmcluster.partition.refine import (
    DENSE_CLUSTERS,
    Array,
    RefinementContext,
    fit_slope,
    largest_shares,
    linear_classifier,
)
from fmcluster.utils import distributed
from fmcluster.utils.blocks import BLOCK_VALUES
from fmcluster.utils.stopping import check_stopped, in_threads
from fmcluster.vectors.faiss_index import one_blas_thread

if TYPE_CHECKING:
    import torch

# Time and memory of a prediction: (rows, landmarks) cosines; more where there are more clusters.
LANDMARKS = 1_000
LANDMARKS_PER_CLUSTER = 8
# Of thousands of clusters each landmark has as many votes: their product takes most of a fit.
MOST_LANDMARKS = 8_000
# kappa: larger, and the nearest landmark alone decides; smaller, and large clusters win by number.
CONCENTRATION = 15.0
# Logits of probabilities of zero and one are finite from here.
SURE = 1e-6
# Of the rows' logits: the votes of one data set tell rows apart more than they are. Mean ECE of 112
# worlds at .6 to 1.1: 12.5, 12.3, 12.4, 12.6, 12.8, 13.2 (benchmarks/results/auto, log, 38).
SLOPE = 0.8
# Keeps the log of a vote that nobody cast finite.
TINY = 1e-6
# Under the package's own: cosines to the landmarks are in float64, 8 MB per thousand and thread.
BLOCK_ROWS = 1_024
# Of thousands of clusters few rows come at a time, and every core is to have some of them.
FEW_ROWS = 256
# On a GPU, as many as are predicted at a time: 70 MB of cosines per thousand landmarks.
GPU_ROWS = 8_192
# Products of fewer multiplications are done before a GPU is awake.
GPU_WORK = 2**28


@dataclass
class Student:
    """The predictor.

    Attributes
    ----------
    landmarks : (m, d) float32
        Unit centroids.
    votes : (m, k) float32
        Mean votes of each landmark's rows.
    weights : (d, k) float32, offsets : (k,) float32
        The discriminant, its slope included.
    bias : (k,) float64
        Added to log-probabilities; keeps clusters that nothing would predict.
    reliability : (m,) float32
        How far each landmark's neighbors bear out its labels, 0..1.
    shift, slope : () float64
        The logits of confidences times `slope`, plus `shift`.
    """

    landmarks: Array
    votes: Array
    weights: Array
    offsets: Array
    bias: NDArray[np.float64]
    reliability: Array
    shift: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    slope: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))

    def scores(self, rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return log-probabilities (m, k) up to a constant and reliability (m, 1) of unit rows."""
        device = distributed.gpu()
        if device is not None and len(rows) * self.landmarks.size >= GPU_WORK:
            return self._scores_on(device, rows)
        out = np.empty((len(rows), len(self.bias)))
        trust = np.empty((len(rows), 1))
        size = self._block_rows
        landmarks = CONCENTRATION * self.landmarks.astype(np.float64).T
        values = self._values()
        weights = self.weights.astype(np.float64)

        def block(start: int) -> None:
            # float64, so that a row's answer does not depend on the rows beside it.
            part = slice(start, start + size)
            some = rows[part].astype(np.float64)
            # A softmax whose sum is the last value's: no cosine is above one, and less is written.
            near = some @ landmarks
            near -= CONCENTRATION
            near = np.exp(near, out=near) @ values
            near = near[:, :-1] / near[:, -1:]
            linear = softmax(some @ weights + self.offsets)
            both = (near[:, :-1] + TINY) * (linear + TINY)
            out[part] = 0.5 * np.log(both, out=both) + self.bias
            trust[part] = near[:, -1:]

        starts = range(0, len(rows), size)
        # One BLAS thread each, for which faiss has to be asked; to predict, it need not be there.
        if len(starts) < 2 or find_spec("faiss") is None:
            for start in starts:
                block(start)
        else:
            with one_blas_thread():
                list(in_threads(block, starts, most=len(starts)))
        return out, trust

    @cached_property
    def _largest(self) -> Any:
        """The largest votes of each landmark, csr: looked for once, not a block of predictions."""
        return largest_shares(self.votes).astype(np.float64)

    def _values(self) -> Any:
        """Return votes, reliability and ones of the landmarks, float64 (m, k + 2).

        Of more than `DENSE_CLUSTERS` clusters a landmark's largest votes, sparse: it has no others
        to speak of, and a product with all of them took half of a fit of 1,000.
        """
        from scipy.sparse import csr_matrix, hstack

        ones = np.ones(len(self.votes))
        if self.votes.shape[1] <= DENSE_CLUSTERS:
            values = np.column_stack([self.votes, self.reliability, ones])
            return values.astype(np.float64)
        beside = csr_matrix(np.column_stack([self.reliability, ones]).astype(np.float64))
        return hstack([self._largest, beside], format="csr")

    def _scores_on(
        self, device: torch.device, rows: Array
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what `scores` does, made on a device that knows float64."""
        import torch

        values = self._values()
        values = values if isinstance(values, np.ndarray) else values.toarray()
        landmarks, votes, weights, offsets, bias = (
            torch.from_numpy(np.asarray(part, np.float64)).to(device)
            for part in (self.landmarks, values[:, :-1], self.weights, self.offsets, self.bias)
        )
        found = []
        with torch.no_grad():
            for part in torch.from_numpy(np.ascontiguousarray(rows)).split(GPU_ROWS):
                check_stopped()
                some = part.to(device, torch.float64)
                near = (CONCENTRATION * (some @ landmarks.T)).softmax(dim=1) @ votes
                linear = (some @ weights + offsets).softmax(dim=1)
                both = 0.5 * ((near[:, :-1] + TINY).log() + (linear + TINY).log()) + bias
                found.append(torch.cat([both, near[:, -1:]], dim=1).cpu().numpy())
        joined = np.concatenate(found)
        return joined[:, :-1], joined[:, -1:]

    def proba(self, rows: Array) -> NDArray[np.floating]:
        """Return probabilities (m, k) of unit rows."""
        # Of tens of thousands of nodes in thousands of clusters one copy in float64 is a gigabyte.
        step = self._block_rows * max(1, BLOCK_VALUES // (self._block_rows * len(self.bias)))
        starts = range(0, max(len(rows), 1), step)
        parts = [self._proba(rows[start : start + step]) for start in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def _block_rows(self) -> int:
        """How many rows a thread has at a time."""
        return BLOCK_ROWS if len(self.bias) <= DENSE_CLUSTERS else FEW_ROWS

    def _proba(self, rows: Array) -> NDArray[np.floating]:
        scores, trust = self.scores(rows)
        k = scores.shape[1]
        proba = trust * softmax(scores) + (1 - trust) / k
        if (self.shift == 0 and self.slope == 1) or k == 1:
            return proba
        return with_confidence(proba, expit(self.slope * _logits(proba) + self.shift))

    def level(self, proba: NDArray[np.floating], expected: float, mass: Array) -> None:
        """Bring the mean confidence of its own first `proba` (m, k) to `expected` (0..1)."""
        k = proba.shape[1]
        if k > 1:
            expected = float(np.clip(expected, 1 / k + SURE, 1 - SURE))
            self.slope = np.asarray(SLOPE)
            self.shift = np.asarray(shift_to_mean(SLOPE * _logits(proba), expected, mass=mass))


def _logits(proba: NDArray[np.floating]) -> NDArray[np.float64]:
    return logit(np.clip(proba.max(axis=1), SURE, 1 - SURE).astype(np.float64))


def teach(
    context: RefinementContext,
    V: Array,
    *,
    seed: int,
    node: NDArray[np.int64] | None = None,
) -> Student:
    """Fit the student of votes `V` (n, k) on the rows of `context`.

    Parameters
    ----------
    context : RefinementContext
    V : (n, k) float32
    seed : int
    node : (n,) int64, optional
        Node of each row: of fewer nodes the landmarks are made in less time.
    """
    k = V.shape[1]
    rows, mass = context.rows, context.weights
    if node is not None:
        few = grouped(rows, node, weights=mass)
        rows, mass = few.centroids, few.sizes
    n_landmarks = min(LANDMARKS_PER_CLUSTER * k, max(MOST_LANDMARKS, 2 * k))
    n_landmarks = min(max(LANDMARKS, n_landmarks), max(len(rows) // 2, k))
    # Eight rounds: landmarks only have to be where rows are, and many of them share a row.
    mini = mini_clusters(rows, n_landmarks, seed=seed, max_iter=8, weights=mass)
    landmark, m = mini.labels if node is None else mini.labels[node], len(mini.sizes)
    votes = group_sums(V, landmark, m, weights=context.weights) / mini.sizes[:, None]
    weights, offsets, z = linear_classifier(context, V, "lda")
    slope = fit_slope(z[context.sample], V[context.sample])
    student = Student(
        mini.centroids,
        votes.astype(np.float32),
        (weights * slope).astype(np.float32),
        (offsets * slope).astype(np.float32),
        np.zeros(k),
        np.ones(len(mini.sizes), np.float32),
    )
    labels = keep_alive(student, context.rows, V)
    same = (labels[context.graph.indices] == labels[:, None]).sum(axis=1, keepdims=True)
    agreed = (same + 1) / (
        context.graph.k + 1
    )  # the row itself counts: nothing is wholly uncertain
    borne_out = group_sums(np.sqrt(agreed), landmark, m, weights=context.weights)
    student.reliability = (borne_out[:, 0] / mini.sizes).astype(np.float32)
    return student


# One that is raised may empty another: with one round those stay, and rounds have to end.
def keep_alive(student: Student, rows: Array, V: Array, *, rounds: int = 5) -> NDArray[np.int64]:
    """Raise the bias of clusters that no row gets, just enough to give each its likeliest row.

    Returns the labels (n,) that the student then gives.
    """
    scores, _ = student.scores(rows)
    k = scores.shape[1]
    for _ in range(rounds):
        labels = scores.argmax(axis=1)
        sizes = np.bincount(labels, minlength=k)
        empty = np.flatnonzero(sizes == 0)
        if len(empty) == 0:
            break
        best = scores.max(axis=1)
        # A row of a cluster of one is not taken: that would only move the gap.
        free = sizes[labels] > 1
        for cluster in empty:
            gap = np.where(free, best - scores[:, cluster] - np.log(V[:, cluster] + TINY), np.inf)
            row = int(gap.argmin())
            if not np.isfinite(gap[row]):
                return labels
            free[row] = False
            # Just above the best: a tie goes to the first cluster, more takes other rows.
            lift = best[row] - scores[row, cluster] + 1e-3
            student.bias[cluster] += lift
            scores[:, cluster] += lift
    return scores.argmax(axis=1)
