"""Partitions of rows: k-means, mini-clusters, linkage, scores, refinement, sizes and number."""
