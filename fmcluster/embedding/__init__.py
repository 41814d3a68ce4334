"""From raw rows to a store of embeddings."""
