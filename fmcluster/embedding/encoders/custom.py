"""A user's own object with `encode`, brought to the Encoder protocol."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.values import as_array
from fmcluster.embedding.encoders.identity import identity_of

logger = logging.getLogger(__name__)


class ObjectEncoder:
    """Any object with ``encode(list) -> (n, d) array`` as an Encoder.

    Parameters
    ----------
    encoder : object
        Its attribute `fingerprint` (dict or str), where it has one, identifies it; else its class
        weights, plain attributes and the code of `encode`.
    modality : "image", "audio" or "text", optional
        What it takes; None reads the object's own `modality`, if any.
    """

    def __init__(self, encoder: Any, *, modality: str | None = None) -> None:
        self.encoder = encoder
        self.modality: str | None = modality or getattr(encoder, "modality", None)
        self.dim: int | None = None
        kind = f"{type(encoder).__module__}.{type(encoder).__qualname__}"
        own, unknown = identity_of(encoder)
        self._fingerprint: dict[str, Any] = {"encoder": "custom", "class": kind, **own}
        # What the fingerprint does not cover: embeddings are then not taken from the cache.
        self.uncovered: tuple[str, ...] = tuple(unknown)
        if unknown:
            logger.warning(
                "%s cannot be told from another setting of itself (%s): its embeddings are not "
                "taken from the cache; give it an attribute `fingerprint`, a text or a dict that "
                "changes when its embeddings do",
                kind,
                ", ".join(unknown),
            )
        self.spec: dict[str, Any] = {"encoder": "custom", "class": kind, "modality": self.modality}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The object's class and what identifies it beyond that."""
        return dict(self._fingerprint)

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return the object's embeddings (n, d) as float32, their shape checked."""
        rows = list(rows)
        values = self.encoder.encode(rows)
        array = as_array(values)
        if array.ndim != 2 or array.shape[0] != len(rows):
            raise ValueError(
                f"{self.fingerprint['class']}.encode returned shape {array.shape} for {len(rows)} "
                f"rows: it must return one row of numbers each, ({len(rows)}, d)"
            )
        if self.dim is not None and array.shape[1] != self.dim:
            raise ValueError(
                f"{self.fingerprint['class']}.encode returned {array.shape[1]} columns after "
                f"{self.dim}: every embedding must have the same length"
            )
        self.dim = int(array.shape[1])
        return array.astype(np.float32, copy=False)
