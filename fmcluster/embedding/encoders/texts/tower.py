"""The text tower of a vision-language encoder, as an encoder of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class TextTower:
    """The text tower of a vision-language encoder, as an Encoder beside its image tower.

    Parameters
    ----------
    encoder : Encoder with ``encode_text(list) -> (n, d)``

    Raises
    ------
    ValueError
        It has no such tower.
    """

    def __init__(self, encoder: Any) -> None:
        if not callable(getattr(encoder, "encode_text", None)):
            raise ValueError(f"encoder {encoder.spec.get('encoder')!r} has no text tower")
        self.encoder = encoder
        self.modality: str | None = "text"
        self.dim: int | None = encoder.dim
        self.spec: dict[str, Any] = {**encoder.spec, "modality": "text", "tower": "text"}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The encoder's own, of the other tower."""
        changed = {"preprocessing": "the model's tokenizer", "normalisation": "l2"}
        return {**self.encoder.fingerprint, **changed, "tower": "text"}

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return unit rows (n, d) float32 of texts."""
        values = np.asarray(self.encoder.encode_text(list(rows)), np.float32)
        self.dim = int(values.shape[1])
        return values
