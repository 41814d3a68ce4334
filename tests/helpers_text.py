"""A tiny text encoder that tests share: texts of one topic are near each other."""

import hashlib

import numpy as np

TOPICS = ("apple pie recipe", "football match score", "stock market price")


class WordEncoder:
    """Bag of hashed words."""

    modality = "text"

    def __init__(self, salt=""):
        self.salt = salt
        self.fingerprint = f"words-{salt}"

    def encode(self, rows):
        out = np.zeros((len(rows), 32), np.float32)
        for row, text in enumerate(rows):
            for word in text.split():
                seed = int(hashlib.sha256((self.salt + word).encode()).hexdigest()[:8], 16)
                out[row] += np.random.default_rng(seed).normal(size=32)
        return out


def topic_texts(count=90):
    """Texts of three topics in turn."""
    return [f"{TOPICS[i % 3]} number {i}" for i in range(count)]
