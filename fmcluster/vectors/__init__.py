"""Rows of embeddings: spaces, blocks, neighbors, projections."""
