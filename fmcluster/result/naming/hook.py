"""The one hook for anything that writes names: ``namer(terms, examples, siblings) -> str``."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# terms: (best first) of the cluster; examples: its typical rows; siblings: names of near clusters.
Namer = Callable[[Sequence[str], Sequence[Any], Sequence[str]], str]


class Named(str):
    """A name with what it was made of, for the audit; a namer may return it for a plain text.

    Parameters
    ----------
    name : str
        The name.
    audit : mapping, optional
        JSON-able: such as the request and the answer.
    """

    audit: dict[str, Any]

    def __new__(cls, name: str, audit: Mapping[str, Any] | None = None) -> Named:
        """Make the text and keep the audit beside it."""
        made = super().__new__(cls, name)
        made.audit = dict(audit or {})
        return made


def checked_name(name: Any, namer: Any) -> str:
    """Return what a namer gave as a name of one line, without signs that cannot be seen.

    Raises
    ------
    TypeError
        It is no text.
    ValueError
        Nothing of it is left.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"the namer {describe(namer)} returned {name!r} of type {type(name).__name__}: a name "
            "is a text"
        )
    # Control and format signs turn lines around and break tables; joiners are part of words.
    kept = [
        c
        for c in " ".join(str(name).split())
        if unicodedata.category(c) not in ("Cc", "Cf", "Cs") or c in "\u200c\u200d"
    ]
    found = "".join(kept).strip()
    if not found:
        raise ValueError(f"the namer {describe(namer)} returned the empty name {str(name)!r}")
    return found


def describe(namer: Any) -> str:
    """Return how a namer is called in messages and records."""
    return str(getattr(namer, "__qualname__", None) or type(namer).__name__)
