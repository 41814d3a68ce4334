"""A user's own object with `encode`, brought to the Encoder protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils import files as _files

logger = logging.getLogger(__name__)


class ObjectEncoder:
    """Any object with ``encode(list) -> (n, d) array`` as an Encoder.

    Parameters
    ----------
    encoder : object
        Its attribute `fingerprint` (dict or str), where it has one, identifies it; else its class
        and, for a torch module, its weights.
    modality : "image" or "text", optional
        What it takes; None reads the object's own `modality`, if any.
    """

    def __init__(self, encoder: Any, *, modality: str | None = None) -> None:
        self.encoder = encoder
        self.modality: str | None = modality or getattr(encoder, "modality", None)
        self.dim: int | None = None
        kind = f"{type(encoder).__module__}.{type(encoder).__qualname__}"
        self._fingerprint: dict[str, Any] = {"encoder": "custom", "class": kind, **_own(encoder)}
        self.spec: dict[str, Any] = {"encoder": "custom", "class": kind, "modality": self.modality}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The object's class and what identifies it beyond that."""
        return dict(self._fingerprint)

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return the object's embeddings (n, d) as float32, their shape checked."""
        rows = list(rows)
        values = self.encoder.encode(rows)
        if hasattr(values, "detach"):
            values = values.detach().float().cpu().numpy()
        array = np.asarray(values)
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


def _own(encoder: Any) -> dict[str, Any]:
    """Return what identifies the object beyond its class."""
    own = getattr(encoder, "fingerprint", None)
    if isinstance(own, (dict, str)):
        return {"own": own}
    state: Callable[[], dict[str, Any]] | None = getattr(encoder, "state_dict", None)
    if callable(state):
        parts = []
        for key, value in state().items():
            if hasattr(value, "detach"):
                array = value.detach().cpu().float().contiguous().numpy()
                parts.append((key, list(array.shape), _files.digest_bytes(array.tobytes())))
        return {"weights": _files.stable_hash(parts)}
    logger.info(
        "%s has no `fingerprint`: embeddings of two of its settings cannot be told apart",
        type(encoder).__qualname__,
    )
    return {}
