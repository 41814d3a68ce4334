"""Several soft partitions of the same rows brought under one naming of the clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.assignment import hungarian

# Each costs a Hungarian match per partition; the first moves from one partition to their mean.
ROUNDS = 2


def align_columns(proba: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return for each of H partitions the order of its columns under a common naming.

    The start is the partition that agrees most with all others; then each is matched to the mean
    of all, a few times.

    Parameters
    ----------
    proba : (n, H, K)
        Soft assignments of n rows in each of H partitions.

    Returns
    -------
    (H, K) int64
        ``proba[:, h, order[h]]`` are the aligned probabilities of partition h.
    """
    parts = [np.ascontiguousarray(part) for part in np.moveaxis(proba, 1, 0)]
    hard = [np.eye(proba.shape[2], dtype=np.float32)[part.argmax(axis=1)] for part in parts]
    agreement = [sum(_overlap(a, b) for b in hard) for a in hard]
    reference = parts[int(np.argmax(agreement))]
    order = np.stack([_match(reference, part) for part in parts])
    for _ in range(ROUNDS):
        aligned = [part[:, o] for part, o in zip(parts, order, strict=True)]
        reference = np.mean(aligned, axis=0)
        order = np.stack([_match(reference, part) for part in parts])
    return order


def _match(reference: NDArray[np.floating], part: NDArray[np.floating]) -> NDArray[np.int64]:
    return hungarian(reference.T @ part)


def _overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    table = a.T @ b
    return float(table[np.arange(len(table)), hungarian(table)].sum())
