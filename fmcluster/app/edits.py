"""What a person may do to clusters: each one call of `ClusterResult`, arguments checked by it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


class ConflictError(ValueError):
    """The clusters, or the folder, have changed since the caller looked at them."""


EDITS: dict[str, Callable[[ClusterResult, Mapping[str, Any]], ClusterResult]] = {
    "merge": lambda result, given: result.merge(given["clusters"], name=given.get("name")),
    "split": lambda result, given: result.split(given["cluster"], into=given.get("into", 2)),
    "rename": lambda result, given: result.rename({given["cluster"]: given["name"]}),
    "move": lambda result, given: result.move(given["ids"], given["cluster"]),
    "dissolve": lambda result, given: result.dissolve(given["cluster"]),
    "at_level": lambda result, given: result.at_level(given["n_clusters"]),
}


def apply_edit(result: ClusterResult, op: str, given: Mapping[str, Any]) -> ClusterResult:
    """Return the result after one edit.

    Raises
    ------
    ValueError, TypeError
        An edit that is not known, lacks an argument or cannot be made.
    """
    if op not in EDITS:
        raise ValueError(f"action {op!r} is not known: choose one of {', '.join(EDITS)}")
    try:
        after = EDITS[op](result, given)
    except KeyError as missing:
        raise ValueError(f"action {op!r} lacks its argument {missing}") from None
    if after is result:
        raise ValueError(f"action {op!r} changes nothing here")
    return after


def state_of(result: ClusterResult) -> str:
    """Return a digest of which row is in which cluster: an edit is repeated on no other state."""
    # Eight bytes: that other labels have the same is a matter of billions of versions.
    return hashlib.blake2b(result.labels.tobytes(), digest_size=8).hexdigest()
