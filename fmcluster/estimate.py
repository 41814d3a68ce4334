"""The former name of `fmcluster.partition.estimates.estimate`."""

from fmcluster.partition.estimates.estimate import (
    ClusterNumberEstimate,
    PriorEstimate,
    estimate_n_clusters,
    estimate_prior,
    estimate_sizes,
    make_long_tail,
)

__all__ = [
    "ClusterNumberEstimate",
    "PriorEstimate",
    "estimate_n_clusters",
    "estimate_prior",
    "estimate_sizes",
    "make_long_tail",
]
