"""Names of clusters of images from words that the user gives.

They are embedded by the text tower of the vision-language encoder that embedded the images; a
cluster takes the word nearest to the mean of its rows, after taking from each word what it has in
common with all clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.result.naming.names import with_names
from fmcluster.vectors.rows import space_list, unit_rows

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


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
