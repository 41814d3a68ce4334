"""What tests of neighbors share."""


def share_found(found, truth):
    """Return the share of the true neighbors (n, k) that are among those found."""
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    return sum(hits) / truth.size
