r"""Answers of a person, in row numbers: classes of rows, pairs that are alike, pairs that differ.

Links are closed first: rows linked as alike are one *group*, a group with a labeled row is of its
class, and pairs that differ keep whole groups apart. Groups without a class are joined to
pseudo-classes by what a clustering says of them, so that links work through the same objective as
labels: with soft clusters :math:`v_i` of the rows and a table M of how alike clusters are,

.. math:: a(g, h) = \operatorname{mean}_{i \in g, j \in h} v_i^\top M v_j, \qquad
          M_{ab} = \frac{(n^+_{ab})^2}{(n^+_{ab})^2 + n^-_{ab} + 2}, \quad M_{aa} = 1,

with the number of answers "same" and "different" between rows of clusters a and b (one "same" may
be one misplaced row, so it takes two); the two most alike groups are joined, again and again,
while a > 1/2 and no answer forbids it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# Joined above: rather one class than two, by what clusters and answers say together.
ALIKE = 0.5
# Answers "same" that two clusters must outweigh: with none, one misplaced row joins two classes.
DOUBT = 2.0


def no_pairs() -> Ints:
    """Return no pairs of rows, (0, 2)."""
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class RowAnswers:
    """Answers about rows of one array.

    Attributes
    ----------
    rows, target : (l,) int64
        Labeled rows, distinct, and their classes 0..n_classes-1.
    n_classes : int
    must_link, cannot_link : (m, 2) int64
        Pairs of rows in one cluster, and in two.
    """

    rows: Ints
    target: Ints
    n_classes: int
    must_link: Ints = field(default_factory=no_pairs)
    cannot_link: Ints = field(default_factory=no_pairs)

    @property
    def answered(self) -> Ints:
        """Rows that any answer is about, ascending."""
        return np.unique(
            np.concatenate([self.rows, self.must_link.ravel(), self.cannot_link.ravel()])
        )

    def among(self, known: NDArray[np.bool_]) -> RowAnswers:
        """Return the answers about rows that are in `known` (n,) alone, numbered among those."""
        place = np.cumsum(known) - 1
        labeled = known[self.rows]
        must, cannot = (
            place[pairs[known[pairs].all(axis=1)]] for pairs in (self.must_link, self.cannot_link)
        )
        return RowAnswers(
            place[self.rows[labeled]], self.target[labeled], self.n_classes, must, cannot
        )

    def moved(self, rows: Ints, place: Ints) -> RowAnswers:
        """Return the answers about other rows: ``rows[i]``, ascending, becomes ``place[i]``.

        Where two rows become one, it has the class of the first, and links in it are gone.
        """

        def there(one: Ints) -> Ints:
            return place[np.searchsorted(rows, one)]

        labeled, first = np.unique(there(self.rows), return_index=True)
        must, cannot = there(self.must_link), there(self.cannot_link)
        return RowAnswers(
            labeled,
            self.target[first],
            self.n_classes,
            must[must[:, 0] != must[:, 1]],
            cannot[cannot[:, 0] != cannot[:, 1]],
        )


class Contradiction(ValueError):
    """Answers that cannot all be right; `rows` are the (two or three) they are about."""

    def __init__(self, rows: list[int], classes: tuple[int, int] | None = None) -> None:
        super().__init__(f"answers about rows {rows} contradict one another")
        self.rows, self.classes = rows, classes


@dataclass(frozen=True)
class Groups:
    """Rows that answers hold together.

    Attributes
    ----------
    rows : (m,) int64
        Every row that an answer is about, ascending.
    group : (m,) int64
        The group of each, 0..g-1; the classes come first, in their order.
    n_classes : int
    apart : (g, g) bool
        Groups that may not be one.
    """

    rows: Ints
    group: Ints
    n_classes: int
    apart: NDArray[np.bool_]


def close_answers(answers: RowAnswers) -> Groups:
    """Return the groups that answers make.

    Raises
    ------
    Contradiction
        One group holds two classes, or two rows that differ.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = answers.answered
    m, c = len(rows), answers.n_classes
    labeled = np.searchsorted(rows, answers.rows)
    must = np.searchsorted(rows, answers.must_link)
    cannot = np.searchsorted(rows, answers.cannot_link)
    # Classes are nodes too: their rows hang on them.
    a = np.concatenate([must[:, 0], labeled])
    b = np.concatenate([must[:, 1], m + answers.target])
    edges = coo_matrix((np.ones(len(a)), (a, b)), shape=(m + c, m + c)).tocsr()
    _, part = connected_components(edges, directed=False)
    of_class = part[m:]
    if len(np.unique(of_class)) < c:
        order = np.argsort(of_class, kind="stable")
        at = int(np.flatnonzero(np.diff(of_class[order]) == 0)[0])
        two = int(order[at]), int(order[at + 1])
        raise Contradiction(_witnesses(edges, m + two[0], m + two[1], rows, m), two)
    for i, j in cannot:
        if part[i] == part[j]:
            raise Contradiction(_witnesses(edges, int(i), int(j), rows, m))
    others = np.setdiff1d(part[:m], of_class)
    number = np.empty(int(part.max(initial=-1)) + 1, np.int64)
    number[of_class] = np.arange(c)
    number[others] = c + np.arange(len(others))
    group = number[part[:m]]
    apart = np.zeros((c + len(others),) * 2, bool)
    apart[:c, :c] = ~np.eye(c, dtype=bool)
    apart[group[cannot[:, 0]], group[cannot[:, 1]]] = True
    return Groups(rows, group, c, apart | apart.T)


def _witnesses(edges: object, start: int, end: int, rows: Ints, m: int) -> list[int]:
    """Return the ends of the shortest chain from `start` to `end` and one row between them."""
    from scipy.sparse.csgraph import breadth_first_order

    _, before = breadth_first_order(edges, start, directed=False)
    chain = [end]
    while chain[-1] != start:
        chain.append(int(before[chain[-1]]))
    chain = [node for node in reversed(chain) if node < m]
    kept = [chain[0], chain[len(chain) // 2], chain[-1]]
    return [int(rows[node]) for node in dict.fromkeys(kept)]


def pseudo_classes(
    groups: Groups, V: NDArray[np.floating], answers: RowAnswers, most: int
) -> tuple[Ints, int]:
    """Return a class for every answered row, and how many there are: links become labels.

    Parameters
    ----------
    groups : Groups
        Of `answers`.
    V : (n, k) array
        Soft clusters of all rows.
    answers : RowAnswers
    most : int
        Join on above this many, as far as answers allow.
    """
    mine = V[groups.rows].astype(np.float64)
    alike = mine @ _cluster_table(V, answers) @ mine.T
    g = len(groups.apart)
    member = np.zeros((g, len(groups.rows)))
    member[groups.group, np.arange(len(groups.rows))] = 1
    size = member.sum(axis=1)
    total = member @ alike @ member.T
    apart, name = groups.apart.copy(), np.arange(g)
    alive = np.ones(g, bool)
    while alive.sum() > 1:
        mean = total / np.outer(size, size)
        mean[apart | np.eye(g, dtype=bool) | ~np.outer(alive, alive)] = -1
        a, b = sorted(divmod(int(mean.argmax()), g))
        if mean[a, b] < 0 or (mean[a, b] <= ALIKE and alive.sum() <= most):
            break
        total[a] += total[b]
        total[:, a] += total[:, b]
        size[a] += size[b]
        apart[a] |= apart[b]
        apart[:, a] |= apart[:, b]
        alive[b], name[name == b] = False, a
    kept, numbered = np.unique(name, return_inverse=True)
    return numbered.reshape(-1)[groups.group], len(kept)


def _cluster_table(V: NDArray[np.floating], answers: RowAnswers) -> NDArray[np.float64]:
    """Return how alike clusters are by the answers about pairs, (k, k), ones on the diagonal."""
    k = V.shape[1]
    same, differ = np.zeros((k, k)), np.zeros((k, k))
    for counts, pairs in ((same, answers.must_link), (differ, answers.cannot_link)):
        if len(pairs):
            counts += V[pairs[:, 0]].T.astype(np.float64) @ V[pairs[:, 1]]
    same, differ = same + same.T, differ + differ.T
    table = same**2 / (same**2 + differ + DOUBT)
    np.fill_diagonal(table, 1.0)
    return table
