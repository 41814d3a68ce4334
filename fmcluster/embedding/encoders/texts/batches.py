"""What all text encoders share: batches by length, counting of what is cut, chunks, dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.encoders.base import TorchEncoder
from fmcluster.embedding.encoders.texts.chunks import Chunker, averaged
from fmcluster.embedding.encoders.texts.options import TextOptions

if TYPE_CHECKING:
    import torch

# Tokens a batch: what keeps activations in a processor's cache, and what fills a GPU.
CPU_TOKENS, GPU_TOKENS = 1024, 65536


def count_longer(tokenizer: Any, rows: list[str], limit: int) -> int:
    """Return how many of `rows` have more than `limit` tokens."""
    return sum(len(ids) > limit for ids in tokenizer(rows)["input_ids"]) if rows else 0


def check_texts(rows: Sequence[Any]) -> None:
    """Refuse what is not text."""
    for number, row in enumerate(rows):
        if not isinstance(row, str):
            raise TypeError(
                f"a text encoder needs strings, row {number} is {type(row).__name__}: "
                "choose the text column, or an image encoder"
            )


class LengthBatched(TorchEncoder):
    """Texts as token ids without padding, in batches of a set number of tokens.

    Attributes
    ----------
    truncated : int
        Texts so far that were longer than the token limit, and were cut.
    options : TextOptions
        What was asked beyond the model's name.
    prompt : str
        What stands before every text.
    normalise : bool
        Whether rows have unit length.
    chunker : Chunker or None
        Cuts long texts into pieces, where that was asked.
    """

    truncated = 0
    options = TextOptions()
    prompt = ""
    normalise = False
    chunker: Chunker | None = None

    def rows_per_batch(self, length: int) -> int:
        """Return how many texts of `length` tokens make a batch."""
        budget = CPU_TOKENS if self.device.type == "cpu" else GPU_TOKENS
        # Of texts of a word or two no more at once: their strings are held, too.
        return max(1, min(budget // max(length, 1), 4096))

    def encode(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of `rows`, float32, in their order."""
        rows = list(rows)
        if self.chunker is None or not rows:
            return super().encode(rows)
        check_texts(rows)
        pieces, counts, weights = self.chunker(rows)
        means = averaged(super().encode(pieces), counts, weights)
        if self.normalise:
            several = counts > 1
            norms = np.linalg.norm(means[several], axis=1, keepdims=True)
            means[several] /= np.where(norms > 0, norms, 1.0)
        return means

    def count_truncated(self, rows: list[Any]) -> None:
        """Count the texts that are cut, as `encode` does, without encoding any."""
        if self.chunker is None:
            self.prepare(rows)

    def shortened(self, values: torch.Tensor) -> torch.Tensor:
        """Return the leading dimensions that are kept of (b, d), of unit length where rows are."""
        import torch

        if self.options.truncate_dim is None:
            return values
        kept = values[:, : self.options.truncate_dim]
        return torch.nn.functional.normalize(kept, dim=1) if self.normalise else kept
