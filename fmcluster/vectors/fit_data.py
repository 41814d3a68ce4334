"""`HeadData`: what a head learns from - spaces, a seed and the neighbor graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_range
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import JointRows, Rows, SomeRows, sample_indices, zero_rows

if TYPE_CHECKING:
    from fmcluster.functional.labels.answers import RowAnswers


def known_rows(
    spaces: list[Rows], graph: KNNGraph | None
) -> tuple[list[Rows], KNNGraph | None, NDArray[np.bool_] | None]:
    """Return the spaces and the graph without the rows that are zero, and which rows are left.

    Nothing is known of such a row (it could not be read, its request failed), so nothing is to be
    learned from it: left in, they would make a cluster of their own and draw the others' centers.

    Returns
    -------
    spaces, graph
        As given where no row is zero, or fewer than two rows are not.
    known : (n,) bool, or None
        None where all rows are left.
    """
    known = ~zero_rows(spaces)
    kept = np.flatnonzero(known)
    if len(kept) in (0, 1, len(known)):
        return spaces, graph, None
    views = [[SomeRows(view, kept) for view in space.views] for space in spaces]
    some = [Rows(SomeRows(s, kept), views=v) for s, v in zip(spaces, views, strict=True)]
    return some, None if graph is None else graph.among(known), known


def rows_to_fit(
    spaces: list[Rows], graph: KNNGraph | None, answers: RowAnswers | None
) -> tuple[list[Rows], KNNGraph | None, RowAnswers | None, NDArray[np.bool_] | None]:
    """Return what `known_rows` does, and the answers about the rows that are left.

    Where a class was told of zero rows alone all rows are left: without them it would have none.
    """
    some, among, known = known_rows(spaces, graph)
    if known is None or answers is None:
        return some, among, answers, known
    told = answers.among(known)
    if len(np.unique(told.target)) < len(np.unique(answers.target)):
        return spaces, graph, answers, None
    return some, among, told if len(told.answered) else None, known


@dataclass
class HeadData:
    """What a head learns from.

    Attributes
    ----------
    spaces : list of Rows
        One or several embedding spaces under the same row numbers.
    n_clusters : int
        The number asked for, already resolved where it was "auto".
    random_state : int
        Base of every random stream; use `seed`.
    answers : RowAnswers, optional
        What a person said about rows, for heads that take it.
    widest : int
        Neighbors that the head will ask for: fewer, asked for before, come from the same graph.
    """

    spaces: list[Rows]
    n_clusters: int
    random_state: int
    _graph: KNNGraph | None = field(default=None, repr=False)
    answers: RowAnswers | None = None
    widest: int = 0

    def __post_init__(self) -> None:
        check_range(self.widest, "n_neighbors", low=0, whole=True)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.spaces[0].n_rows

    @property
    def joint(self) -> JointRows:
        """All spaces side by side as unit rows."""
        return JointRows(self.spaces)

    def seed(self, *stream: str | int) -> int:
        """Return the seed of a named random stream."""
        return seed_of(self.random_state, *stream)

    def sample_rows(self, most: int) -> NDArray[np.float32]:
        """Return unit rows of all spaces: all of them, or `most` at random, in their order."""
        if self.n_rows <= most:
            return self.joint[:]
        return self.joint[sample_indices(self.joint, most, self.seed("sample"))]

    def graph(self, k: int) -> KNNGraph:
        """Return the k-neighbor graph: the one that was given if it is wide enough, else built."""
        k = min(k, self.n_rows - 1)
        if self._graph is None or self._graph.k < k:
            most = min(max(k, self.widest), self.n_rows - 1)
            self._graph = KNNGraph.build(self.joint, k=most, random_state=self.random_state)
        return self._graph.take(k)
