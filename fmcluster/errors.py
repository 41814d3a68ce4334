"""Errors that a caller may want to catch."""

from fmcluster.utils.errors import (
    CollapseWarning,
    CorruptShardError,
    DataError,
    EncoderUnavailableError,
    MissingExtraError,
    NamingError,
    StoreMismatchError,
    TrainingError,
)

__all__ = [
    "CollapseWarning",
    "CorruptShardError",
    "DataError",
    "EncoderUnavailableError",
    "MissingExtraError",
    "NamingError",
    "StoreMismatchError",
    "TrainingError",
]
