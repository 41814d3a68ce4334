"""Encoders that are fitted on the data (TF-IDF): fitted once, their state kept in the store."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster._files import (
    read_array,
    read_json,
    safe_child,
    stable_hash,
    write_array,
    write_json,
)
from fmcluster.data import Source
from fmcluster.encoders import Encoder
from fmcluster.errors import CorruptShardError

# Above this many texts an even selection is fitted on: a vocabulary does not need more.
FIT_ROWS = 500_000


def is_fitted_on_data(encoder: Any) -> bool:
    """Return whether an encoder has to see the data before it can encode."""
    return all(callable(getattr(encoder, name, None)) for name in ("fit", "state", "from_state"))


def fit_or_restore(folder: Path, encoders: Sequence[Encoder], source: Source) -> list[Encoder]:
    """Return the encoders, those fitted on data taken from the folder's state or fitted now."""
    ready: list[Encoder] = []
    for number, encoder in enumerate(encoders):
        if not is_fitted_on_data(encoder):
            ready.append(encoder)
            continue
        state = load_state(folder, number)
        if state is None:
            fitted: Any = encoder
            step = -(-(source.n_rows or 1) // FIT_ROWS)
            texts = itertools.islice(source.texts(), 0, None, step)
            fitted.fit(list(itertools.islice(texts, FIT_ROWS)))
            save_state(folder, number, fitted.state())
            state = load_state(folder, number)
        # Taken from disk even when just fitted: what encodes now is what will encode later.
        maker: Any = encoder
        ready.append(maker.from_state(state))
    return ready


def _state_path(folder: Path, number: int, key: str | None = None) -> Path:
    if key is not None and not key.replace("_", "").isalnum():
        raise CorruptShardError(f"state name {key!r} in {folder} is not plain")
    name = f"encoder{number}.json" if key is None else f"encoder{number}.{key}.npy"
    return safe_child(folder, name)


def save_state(folder: Path, number: int, state: dict[str, Any]) -> None:
    """Write an encoder's state: arrays as ``.npy``, the rest as one JSON, written last."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    for key, array in arrays.items():
        write_array(_state_path(folder, number, key), array)
    rest = {key: value for key, value in state.items() if key not in arrays}
    body = {"values": rest, "arrays": sorted(arrays)}
    write_json(_state_path(folder, number), {**body, "digest": stable_hash(body)})


def load_state(folder: str | os.PathLike[str], number: int) -> dict[str, Any] | None:
    """Return the state of the encoder of space `number`, or None where the store has none."""
    path = _state_path(Path(folder), number)
    if not path.exists():
        return None
    body = read_json(path)
    digest = body.pop("digest", None)
    if digest != stable_hash(body):
        raise CorruptShardError(f"{path} was edited or damaged: delete it and embed again")
    try:
        arrays = {key: read_array(_state_path(Path(folder), number, key)) for key in body["arrays"]}
    except FileNotFoundError as error:
        raise CorruptShardError(f"{error.filename} is missing: embed into a new folder") from None
    return {**body["values"], **arrays}
