"""Encoders that are fitted on the data (TF-IDF): fitted once, their state kept in the store."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.source import Source
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import (
    digest_file,
    read_array,
    read_json,
    safe_child,
    stable_hash,
    write_array,
    write_json,
)


def is_fitted_on_data(encoder: Any) -> bool:
    """Return whether an encoder has to see the data before it can encode."""
    return all(callable(getattr(encoder, name, None)) for name in ("fit", "state", "from_state"))


def fit_or_restore(folder: Path, encoders: Sequence[Encoder], source: Source) -> list[Encoder]:
    """Return the encoders, those fitted on data taken from the folder's state or fitted now.

    The given object is never fitted itself: its fingerprint has to stay that of its settings.
    """
    ready: list[Encoder] = []
    for number, encoder in enumerate(encoders):
        if is_fitted_on_data(encoder):
            if load_state(folder, number) is None:
                save_state(folder, number, *_fitted(encoder, source).state())
            # Taken from disk even when just fitted: what encodes now is what will encode later.
            ready.append(restore(encoder, load_state(folder, number) or {}))
        else:
            ready.append(encoder)
    return ready


def _fitted(encoder: Any, source: Source) -> Any:
    if getattr(encoder, "fitted", False):
        return encoder
    fresh = copy.deepcopy(encoder)
    fresh.fit(source.texts())
    return fresh


def restore(encoder: Any, state: dict[str, Any]) -> Any:
    """Return an encoder of the same class in a state of `load_state`."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    rest = {key: value for key, value in state.items() if key not in arrays}
    return encoder.from_state(arrays, rest)


def _state_path(folder: Path, number: int, key: str | None = None) -> Path:
    if key is not None and not key.replace("_", "").isalnum():
        raise CorruptShardError(f"state name {key!r} in {folder} is not plain")
    name = f"encoder{number}.json" if key is None else f"encoder{number}.{key}.npy"
    return safe_child(folder, name)


def save_state(
    folder: Path, number: int, arrays: dict[str, NDArray[Any]], rest: dict[str, Any]
) -> None:
    """Write an encoder's state: arrays as ``.npy``, then the rest as one JSON."""
    for key, array in arrays.items():
        write_array(_state_path(folder, number, key), array)
    digests = {key: digest_file(_state_path(folder, number, key)) for key in sorted(arrays)}
    body = {"values": rest, "arrays": digests}
    write_json(_state_path(folder, number), {**body, "digest": stable_hash(body)})


def load_state(folder: str | os.PathLike[str], number: int) -> dict[str, Any] | None:
    """Return the state of the encoder of space `number`, or None where the store has none."""
    path = _state_path(Path(folder), number)
    if not path.exists():
        return None
    body = read_json(path)
    digest = body.pop("digest", None)
    if digest != stable_hash(body):
        raise CorruptShardError(f"{path} was edited or damaged: embed into a new folder")
    arrays = {}
    for key, expected in body["arrays"].items():
        array = _state_path(Path(folder), number, key)
        if not array.is_file() or digest_file(array) != expected:
            raise CorruptShardError(f"{array} is missing or damaged: embed into a new folder")
        arrays[key] = read_array(array)
    return {**body["values"], **arrays}
