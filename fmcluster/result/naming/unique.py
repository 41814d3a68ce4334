"""Names are unique, and some are a person's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fmcluster.utils.validation import label_text

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


def unique_names(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """Return the names, those that repeat or are taken with a number: "card", "card (2)".

    Parameters
    ----------
    names : sequence of str
        An empty one becomes "cluster", its place in the sequence.
    taken : iterable of str
        Names that are given already.
    """
    used, out = set(taken), []
    kept = {name for name in names if name and name not in used}
    for place, name in enumerate(names):
        base = name or f"cluster {place}"
        fresh, number = base, 1
        # A name that a later cluster has as its own is not made up for this one.
        while fresh in used or (number > 1 and fresh in kept):
            number += 1
            fresh = f"{base} ({number})"
        used.add(fresh)
        out.append(fresh)
    return out


def found_names(result: ClusterResult) -> set[str]:
    """Return the names of a result that nobody gave: made of terms, a vocabulary or by a namer.

    Names by an answer, by `rename` or ``merge(name=...)`` are a person's.
    """
    from fmcluster.result.editing.steps import Merge, Rename, Split
    from fmcluster.result.loop.grow import Grow

    base = result.names if result.unedited is None else result.unedited.rows.names
    found: set[str] = set(base or ())
    given: set[str] = set()
    for step in result.pipeline.edits:
        match step:
            case Rename():
                (found if step.found else given).update(name for _, name in step.names)
            case Merge():
                (found if step.found else set()).update(n for n in step.names if n)
            case Split() | Grow():
                found.update(step.names or ())
    given |= {label_text(name) for name in result.answers.classes}
    if result.calibrator is not None:
        given |= {label_text(name) for name in result.calibrator.class_of_cluster.values()}
    return found - given
