r"""Which terms tell a cluster from the others, and from its neighbors first of all.

Every row counts by its confidence :math:`w_i`: with :math:`x_{it}` whether row i holds term t,

.. math::

    p_{tc} = \frac{\sum_{i \in c} w_i x_{it} + \pi_t}{\sum_{i \in c} w_i + 1}, \qquad
    b_{tc} = \tfrac12 \sum_{c'} m_{cc'} p_{tc'} + \tfrac12\, p_{t \bar c},

the share of the cluster's rows that hold t (:math:`\pi_t` that of all rows, one row's worth of it),
and the share to be expected: half of the neighbors', half of all other rows'. What neighbors are is
what the probabilities confuse: :math:`m_{cc'}` is the probability that the rows of c give to c'.
A term's score is what one row tells by holding it or not, the divergence of Bernoulli variables,

.. math:: s_{tc} = q \log \frac qb + (1 - q) \log \frac{1 - q}{1 - b}, \qquad
    q = p - \sqrt{\frac{p (1 - p)}{\sum_{i \in c} w_i + 1}} \quad (q > b),

with the share q that is there but for one standard error: of the rare words that two rows of a
cluster happen to hold there are many, and few of them say what it is about. It is scored

as cluster labels are chosen by Carmel, Roitman and Zwerdling ("Enhancing cluster labeling using
Wikipedia", SIGIR 2009) and words by Monroe, Colaresi and Quinn ("Fightin' words", 2008): terms that
many rows hold, typical ones above all, and few rows elsewhere. Terms are taken by score; one that
shares a token with one taken says nothing new, unless it is the longer one of nearly that score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.naming.phrases import TermTable
from fmcluster.utils.blocks import row_blocks

Floats = NDArray[np.float64]

N_TERMS = 3  # what a table cell and a map label hold
# Clusters that a cluster is set apart from: the rest of the confusion is noise.
NEIGHBORS = 5
# Share of the neighbors in what is expected; the other rows have the rest.
NEAR = 0.5
# Rows' worth of all rows in a cluster's shares: a cluster of two rows is not named by chance.
PRIOR_ROWS = 1.0
# A term of so little of the best one's score is left out: a short name says more.
LEAST_SCORE = 0.1
# A pair of so much of a word's score takes its place, "top up" for "top"; of longer terms more is
# asked, as they are rarely what people say.
LONGER, LONGEST = 0.6, 0.9
# Each word of a term tells something by itself, by so much of the term's score.
OWN = 0.1
# Terms that are looked at, best first.
# Later ones are hardly a name, and each is held against those that were taken.
LOOKED_AT = 60


def cluster_terms(
    table: TermTable,
    labels: NDArray[np.int64],
    proba: NDArray[np.floating],
    *,
    n_terms: int = N_TERMS,
) -> list[list[str]]:
    """Return at most `n_terms` telling terms of each cluster, best first.

    Parameters
    ----------
    table : TermTable
        Of m texts.
    labels : (m,) int64
        Cluster of each, -1 for none.
    proba : (m, k)
        Calibrated probabilities.
    n_terms : int
        Terms at most.
    """
    scores = term_scores(table, labels, proba)
    single = {part[0]: term for term, part in enumerate(table.parts) if len(part) == 1}
    chosen = [_chosen(row, table, single, n_terms) for row in scores]
    same: dict[tuple[int, ...], list[int]] = {}
    for c, terms in enumerate(chosen):
        same.setdefault(tuple(terms), []).append(c)
    for group in same.values():
        for c in group if len(group) > 1 else ():  # weaker terms tell them apart
            chosen[c] = _chosen(scores[c], table, single, n_terms, least=0.0)
    return [[table.terms[t] for t in terms] for terms in chosen]


def term_scores(
    table: TermTable, labels: NDArray[np.int64], proba: NDArray[np.floating]
) -> list[tuple[NDArray[np.int64], Floats]]:
    """Return for each cluster the terms its rows hold and their scores; zero where q <= b."""
    from scipy.sparse import csr_matrix

    k = proba.shape[1]
    there = np.flatnonzero(labels >= 0)
    weight = proba[there, labels[there]].astype(np.float64)
    # A cluster whose rows likely belong elsewhere weighs one row at least, or nothing names it.
    weight /= np.minimum(np.bincount(labels[there], weight, k), 1)[labels[there]].clip(1e-9)
    member = csr_matrix((weight, (labels[there], there)), shape=(k, len(labels)))
    held = (member @ table.holds).tocsr()  # (k, t)
    rows = np.asarray(member.sum(axis=1)).ravel()
    total = np.asarray(held.sum(axis=0)).ravel()
    overall = total / max(rows.sum(), 1e-12)
    shares = (csr_matrix((1 / np.maximum(rows, 1e-12), (range(k), range(k)))) @ held).tocsr()
    near = (csr_matrix(confusion(labels, proba)) @ shares).tocsr()
    found = []
    for c in range(k):
        terms, own = held[c].indices, held[c].data.astype(np.float64)
        p = (own + PRIOR_ROWS * overall[terms]) / (rows[c] + PRIOR_ROWS)
        others = rows.sum() - rows[c]
        if others <= 0:  # the only cluster: nothing to be told from, so what most rows hold
            found.append((terms.astype(np.int64), p))
            continue
        b = (total[terms] - own) / max(others, 1e-12)
        if near[c].nnz:
            beside = np.zeros(len(total))
            beside[near[c].indices] = near[c].data
            b = NEAR * beside[terms] + (1 - NEAR) * b
        # What the cluster alone holds is expected elsewhere once in half a row.
        b = (b * others + 0.5 * overall[terms]) / (others + 0.5)
        p, b = (np.clip(each, 1e-9, 1 - 1e-9) for each in (p, b))
        q = np.maximum(p - np.sqrt(p * (1 - p) / (rows[c] + PRIOR_ROWS)), 1e-9)
        if not (q > b).any():  # too few rows to be sure of any: what is likely names them
            q = p
        score = q * np.log(q / b) + (1 - q) * np.log((1 - q) / (1 - b))
        found.append((terms.astype(np.int64), np.where(q > b, score, 0.0)))
    return found


def confusion(labels: NDArray[np.int64], proba: NDArray[np.floating]) -> Floats:
    """Return how much each cluster is taken for each of its neighbors (k, k), rows sum to one.

    All zero in the row of a cluster that is confused with none.
    """
    k = proba.shape[1]
    out = np.zeros((k, k))
    there = labels >= 0
    for rows in row_blocks(proba):
        np.add.at(out, labels[rows][there[rows]], proba[rows][there[rows]])
    np.fill_diagonal(out, 0)
    if k > NEIGHBORS:
        rest = np.argsort(-out, axis=1, kind="stable")[:, NEIGHBORS:]
        np.put_along_axis(out, rest, 0, axis=1)
    sums = out.sum(axis=1, keepdims=True)
    return np.divide(out, sums, out=out, where=sums > 1e-12)


def _chosen(
    scored: tuple[NDArray[np.int64], Floats],
    table: TermTable,
    single: dict[int, int],
    n_terms: int,
    *,
    least: float = LEAST_SCORE,
    own: float = OWN,
) -> list[int]:
    """Return the terms that name a cluster, best first; `single` has the term of each token.

    Each word of a term has the share `own` of the term's score.
    """
    terms, scores = scored
    of_term = dict(zip(terms.tolist(), scores.tolist(), strict=True))
    # Terms are in the order of the alphabet, which decides between equals.
    order = np.lexsort((terms, -scores))[:LOOKED_AT]
    taken: list[tuple[int, float]] = []
    for term in terms[order].tolist():
        score, parts = of_term[term], set(table.parts[term])
        if score <= 0 or score < least * float(scores.max()):
            break
        words = [single[token] for token in parts if token in single]
        if len(parts) > 1 and any(of_term.get(word, 0.0) < own * score for word in words):
            continue
        alike = [each for each in taken if parts & set(table.parts[each[0]])]
        longer = LONGER if len(parts) == 2 else LONGEST
        if not alike:
            if len(taken) < n_terms:
                taken.append((term, score))
        elif all(set(table.parts[t]) < parts and score >= longer * s for t, s in alike):
            first = taken.index(alike[0])
            taken[first] = (term, alike[0][1])
            taken = [each for each in taken if each not in alike[1:]]
    if not taken and own > 0:
        # Where each telling term has a word that tells nothing, it is still what names the cluster.
        return _chosen(scored, table, single, n_terms, least=least, own=0.0)
    return [term for term, _ in taken]
