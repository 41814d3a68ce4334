"""The few exceptions of our own: only those that a caller would want to catch by name."""

from __future__ import annotations

from typing import Any


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


class NamingError(RuntimeError):
    """A namer has no name for a cluster, which then keeps the name of its terms.

    Parameters
    ----------
    message : str
        Why.
    final : bool
        Whether no later call would have one: a wrong key or address.
    audit : dict, optional
        What was asked and answered, for the record.
    """

    def __init__(
        self, message: str, *, final: bool = False, audit: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.final, self.audit = final, audit or {}


class CollapseWarning(UserWarning):
    """Fewer clusters are left alive than were asked for."""


def first_line(error: object) -> str:
    """Return the first line of what an error says, its kind where it says nothing."""
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__
