"""The few exceptions of our own: only those that a caller would want to catch by name."""

from __future__ import annotations


class StoreMismatchError(ValueError):
    """A store on disk was made by another encoder, from other data, or with other settings."""


class CorruptShardError(OSError):
    """A shard, a manifest or a saved file does not hold what its checksum or header says."""


class MissingExtraError(ImportError):
    """An optional package is needed; the message names the command that installs it."""


class EncoderUnavailableError(OSError):
    """An encoder's weights cannot be had: the Hub is unreachable and nothing is cached."""


class DataError(ValueError):
    """The input data cannot be read as asked: no such column, mixed modalities, a bad row."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is not finite."""


class CollapseWarning(UserWarning):
    """Fewer clusters are left alive than were asked for."""
