"""Embeddings on disk: shards, manifest, writer."""
