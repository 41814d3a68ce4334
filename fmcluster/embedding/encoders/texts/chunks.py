"""Texts longer than a model reads, in chunks: cut between words, their embeddings averaged.

z = (sum_c t_c z_c) / (sum_c t_c),  t_c the tokens of chunk c
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Chunker:
    """Cuts texts into pieces of at most `budget` tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Its settings are copied: another thread may tokenise meanwhile.
    budget : int
        Tokens of a piece, without special tokens and prompt.

    Raises
    ------
    ValueError
        The tokenizer is a slow one and cannot say where its tokens stand in the text.
    """

    def __init__(self, tokenizer: Any, budget: int) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ValueError(
                f"long='chunk-mean' needs a fast tokenizer, the model has "
                f"{type(tokenizer).__name__}: use long='cut'"
            )
        self.tokenizer = Tokenizer.from_str(backend.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.budget = budget

    def __call__(
        self, texts: list[str]
    ) -> tuple[list[str], NDArray[np.int64], NDArray[np.float32]]:
        """Return the pieces of all texts in their order, pieces a text, and tokens a piece."""
        found = [
            self._pieces(text, encoding)
            for text, encoding in zip(texts, self._encode(texts), strict=True)
        ]
        flat = [piece for pieces in found for piece in pieces]
        return (
            [text for text, _ in flat],
            np.array([len(pieces) for pieces in found], np.int64),
            np.array([max(tokens, 1) for _, tokens in flat], np.float32),
        )

    def _encode(self, texts: list[str]) -> Any:
        return self.tokenizer.encode_batch(texts, add_special_tokens=False)

    def _pieces(self, text: str, encoding: Any) -> list[tuple[str, int]]:
        """Return (piece, tokens) of one text; a text that fits is its own only piece."""
        total = len(encoding.ids)
        if total <= self.budget or len(text) < 2:
            return [(text, total)]
        words, offsets, low = encoding.word_ids, encoding.offsets, 0
        bounds = [0]
        while total - low > self.budget:
            high = low + self.budget
            cut = high
            while cut > low and words[cut] is not None and words[cut] == words[cut - 1]:
                cut -= 1
            low = cut if cut > low else high  # a word longer than a piece is cut inside
            bounds.append(max(offsets[low][0], bounds[-1]))
        parts = [
            part
            for a, b in zip(bounds, [*bounds[1:], len(text)], strict=True)
            if (part := text[a:b].strip())
        ]
        if parts == [text]:  # tokens that all stand at one place: halves will do
            parts = [text[: len(text) // 2], text[len(text) // 2 :]]
        # By itself a piece may have more tokens than in its text: it is then cut once more.
        again = zip(parts, self._encode(parts), strict=True)
        return [piece for part, own in again for piece in self._pieces(part, own)]


def averaged(
    values: NDArray[np.float32], counts: NDArray[np.int64], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the weighted means (n, d) of each text's consecutive pieces (m, d)."""
    starts = np.cumsum(counts) - counts
    sums = np.add.reduceat(values * weights[:, None], starts, axis=0)
    means = np.asarray(sums / np.add.reduceat(weights, starts)[:, None], np.float32)
    single = counts == 1
    means[single] = values[starts[single]]  # bit for bit what it is without chunks
    return means
