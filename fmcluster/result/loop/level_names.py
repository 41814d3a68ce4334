"""Names of the clusters of a level: unions and parts are named by their own texts.

Terms are found once in the texts of the result that the levels are of, and weighed anew for each
level. A cluster that a level leaves as it is keeps its name, and so does one that a person named:
a union of such a one has the name of its largest part, its parts are "name / 1", "name / 2".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmcluster.result.editing.steps import Merge, Split
from fmcluster.result.naming import source_names
from fmcluster.result.naming.unique import found_names, unique_names

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult


def with_level_names(result: ClusterResult, level: ClusterResult) -> ClusterResult:
    """Return a level of a result with names in its merge or its splits, where texts are at hand.

    Parameters
    ----------
    result : ClusterResult
        What the level is of.
    level : ClusterResult
        Made of it by one merge, or by splits, as its last steps.
    """
    if result._source_texts is None or level.names is None:
        return level
    names = source_names(level, found=result._source_texts)
    assert names is not None
    steps = list(level.pipeline.edits)
    first = len(result.pipeline.edits)
    kept, free = set(result.names or ()), found_names(result)
    k = result.n_clusters
    now = list(result.names or ())
    for place, step in enumerate(steps[first:], first):
        if isinstance(step, Merge):
            steps[place] = _merge_named(step, result, names)
        elif isinstance(step, Split):
            parts = [step.cluster, *range(k, k + len(step.order) - 1)]
            if now[step.cluster] in free or now[step.cluster] == f"cluster {step.cluster}":
                kept.discard(now[step.cluster])
                fresh = tuple(unique_names([names[part] for part in parts], kept))
                kept |= set(fresh)
                steps[place] = dataclasses.replace(step, names=fresh)
            k += len(step.order) - 1
    after, k = result.names, result.n_clusters
    for step in steps[first:]:
        after, k = step.named(after, k), step.count(k)
    return level.with_pipeline(edits=tuple(steps), names=after)


def _merge_named(step: Merge, result: ClusterResult, names: Sequence[str]) -> Merge:
    """Return a merge whose unions are named, but for those whose largest part a person named."""
    old, free = result.names or (), found_names(result)
    numbers = step.numbers(result.n_clusters)
    inside = {c for group in step.groups for c in group}
    kept = [name for c, name in enumerate(old) if c not in inside]
    places = []
    for group, name in zip(step.groups, step.names, strict=True):
        largest = max(group, key=lambda c: (result.sizes[c], -c))
        if old[largest] in free or old[largest] == f"cluster {largest}":
            places.append(int(numbers[group[0]]))
        else:
            places.append(-1)
            kept.append(str(name))
    fresh = iter(unique_names([names[place] for place in places if place >= 0], kept))
    given = [
        name if place < 0 else next(fresh) for place, name in zip(places, step.names, strict=True)
    ]
    return dataclasses.replace(step, names=tuple(given), found=True)
