"""Rows of embeddings: spaces, blocks, neighbours, projections."""
