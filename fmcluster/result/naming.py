r"""Names for clusters: texts by their class-based TF-IDF terms, images by a vocabulary.

Terms (Grootendorst, "BERTopic", 2022): all texts of a cluster are one document; with
:math:`f_{tc}` the share of term t among the words of cluster c, :math:`f_t` its count over all
clusters and A the mean number of words a cluster,

.. math:: w_{tc} = f_{tc} \log(1 + A / f_t).

A vocabulary (words that the user gives) is embedded by the text tower of the vision-language
encoder that embedded the images; a cluster takes the word nearest to the mean of its rows, after
taking from each word what it has in common with all clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.vectors.rows import space_list, unit_rows

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

TOKEN = r"(?u)\b\w(?:[\w+#.]*[\w+#])?"
N_TERMS = 3  # what a table cell and a map label hold
# Rows read at a time: evenly spaced pieces of this size stand for long data.
PIECE_ROWS = 4_096


def cluster_terms(
    texts: Iterable[str], labels: NDArray[np.int64], n_clusters: int, *, n_terms: int = N_TERMS
) -> list[list[str]]:
    """Return the `n_terms` most telling terms of each cluster, best first.

    Parameters
    ----------
    texts : iterable of str
        One a row, in the order of `labels`.
    labels : (n,) int64
        Cluster of each text.
    n_clusters : int
        Number of clusters.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(stop_words="english", token_pattern=TOKEN, max_features=100_000)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # nothing but stop words
        return [[] for _ in range(n_clusters)]
    n = len(labels)
    member = csr_matrix((np.ones(n), (labels, np.arange(n))), shape=(n_clusters, n))
    by_cluster = (member @ counts).tocsr()
    total = np.asarray(by_cluster.sum(axis=0)).ravel()
    words = np.maximum(np.asarray(by_cluster.sum(axis=1)).ravel(), 1)
    rarity = np.log1p(words.mean() / np.maximum(total, 1))
    names = vectorizer.get_feature_names_out()
    found = []
    for cluster in range(n_clusters):
        row = by_cluster[cluster]
        score = row.data / words[cluster] * rarity[row.indices]
        # Ties go to the alphabet, so that names do not depend on the machine.
        best = sorted(zip(-score, names[row.indices], strict=True))[:n_terms]
        found.append([str(term) for _, term in best])
    return found


def name_by_source(result: ClusterResult, *, limit: int = 100_000) -> ClusterResult:
    """Return the result named after the terms of its own texts, or as it is where it has none.

    Parameters
    ----------
    result : ClusterResult
        With its `source`; images, streams and plain arrays leave it unchanged.
    limit : int
        Rows that are read, in evenly spaced pieces: terms need no more.
    """
    source = result.source
    if source is None or source.modality != "text" or source.is_stream:
        return result
    rows = {id_: row for row, id_ in enumerate(result.ids.tolist())}
    texts, labels = [], []
    n_pieces = -(-source.n_rows // PIECE_ROWS)
    read = min(n_pieces, max(1, limit // PIECE_ROWS))
    numbers = np.unique(np.linspace(0, n_pieces - 1, read).astype(int)).tolist()
    for number, raw in source.pieces(PIECE_ROWS, numbers):
        if not raw:
            break
        block = source.decode(raw, number * PIECE_ROWS, on_error="skip")
        for id_, text in zip(block.ids.tolist(), block.rows, strict=True):
            if text is not None and id_ in rows and result.labels[rows[id_]] >= 0:
                texts.append(text)
                labels.append(result.labels[rows[id_]])
    terms = cluster_terms(texts, np.asarray(labels, np.int64), result.n_clusters)
    return with_names(result, [", ".join(found) for found in terms])


def name_by_terms(
    result: ClusterResult, texts: Iterable[str], *, n_terms: int = N_TERMS
) -> ClusterResult:
    """Return the result with clusters named after their most telling terms."""
    there = [(t, c) for t, c in zip(texts, result.labels.tolist(), strict=True) if c >= 0]
    labels = np.array([c for _, c in there], np.int64)
    terms = cluster_terms((t for t, _ in there), labels, result.n_clusters, n_terms=n_terms)
    return with_names(result, [", ".join(found) for found in terms])


def name_by_vocabulary(
    result: ClusterResult, vocabulary: Sequence[str], *, encoder: Any
) -> ClusterResult:
    """Return the result with clusters named after the nearest word of a vocabulary.

    Parameters
    ----------
    result : ClusterResult
        With its embeddings, made by a vision-language encoder without preprocessing.
    vocabulary : sequence of str
        Candidate names.
    encoder : object with ``encode_text(list) -> (v, d)``
        That encoder, such as one of open_clip.

    Raises
    ------
    ValueError
        The result has no embeddings, or of another width than the text tower's.
    """
    if result.embeddings is None:
        raise ValueError("the result has no embeddings: call result.attach(embeddings) first")
    if not len(vocabulary):
        raise ValueError("the vocabulary is empty: give candidate names")
    rows = unit_rows(np.asarray(space_list(result.embeddings)[0]))
    words = unit_rows(np.asarray(encoder.encode_text(list(vocabulary))))
    if rows.shape[1] != words.shape[1]:
        raise ValueError(
            f"rows have {rows.shape[1]} dimensions, the text tower gives {words.shape[1]}: "
            "use the encoder that made the rows, without preprocessing"
        )
    centers = np.zeros((result.n_clusters, rows.shape[1]))
    there = result.labels >= 0
    np.add.at(centers, result.labels[there], rows[there])
    cosines = unit_rows(centers) @ words.T
    nearest = (cosines - cosines.mean(axis=0)).argmax(axis=1)
    return with_names(result, [vocabulary[word] for word in nearest])


def with_names(result: ClusterResult, names: Sequence[str]) -> ClusterResult:
    """Return the result with these names, made unique by a number where they repeat."""
    if len(names) != result.n_clusters:
        raise ValueError(f"{len(names)} names were given for {result.n_clusters} clusters")
    seen: dict[str, int] = {}
    unique = []
    for cluster, name in enumerate(names):
        base = name or f"cluster {cluster}"
        seen[base] = seen.get(base, 0) + 1
        unique.append(base if seen[base] == 1 else f"{base} ({seen[base]})")
    return result.with_pipeline(names=tuple(unique))
