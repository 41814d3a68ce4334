"""Names of clusters from the texts of their rows, by terms or by a namer of the user's."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.cluster import names_of
from fmcluster.result.naming.hook import Namer, checked_name, describe
from fmcluster.result.naming.terms import N_TERMS, cluster_terms, confusion
from fmcluster.result.naming.texts import MOST_ROWS, RowTexts, given_texts, source_texts
from fmcluster.result.naming.unique import found_names, unique_names
from fmcluster.utils.blocks import picked
from fmcluster.utils.errors import NamingError
from fmcluster.utils.progress import track
from fmcluster.utils.validation import check_range
from fmcluster.utils.words import check_languages

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Texts that a namer is shown of a cluster, and names of near ones.
# More cost tokens in every call; fewer are one side of a cluster, or leave names alike.
N_EXAMPLES, N_SIBLINGS = 8, 5
# So many calls that failed one after the other, and the endpoint is taken for gone.
GIVE_UP = 3


def name_clusters(
    result: ClusterResult,
    texts: Iterable[str | None] | None = None,
    *,
    namer: Namer | None = None,
    clusters: Sequence[int] | None = None,
    language: str | Sequence[str] = "auto",
    n_terms: int = N_TERMS,
    n_examples: int = N_EXAMPLES,
) -> ClusterResult:
    """Return the result with its clusters named by their most telling terms, or by a namer.

    Parameters
    ----------
    result : ClusterResult
        What was clustered; of an edited result the new names are one more edit.
    texts : iterable of str, optional
        One a row in the order of ``result.ids`` (None where a row has none): the texts themselves,
        or what goes for them, such as captions of images. By default those of its own source.
    namer : callable, optional
        ``namer(terms, examples, siblings) -> str``: the terms of a cluster, best first, its typical
        texts, and the names of its nearest clusters, those named before it by their new name. A
        `ChatNamer` asks a language model. What it was asked and what it answered is kept
        (``result.name_audit``) and saved with the result as ``names_audit.jsonl``.
    clusters : sequence of int, optional
        Which clusters to name; by default all but those that a person named.
    language : str or sequence of str
        ISO 639-1 codes whose stop words and inflections are known, such as ``"de"``; "auto" finds
        the languages of the texts.
    n_terms, n_examples : int
        Terms of a name, and texts that a namer is shown, at most.

    Returns
    -------
    ClusterResult
        Names are unique: one that repeats gets a number.

    Raises
    ------
    ValueError
        No texts are at hand, no such cluster, a language that is none, an empty name.
    TypeError
        Texts or names that are no texts.

    Warns
    -----
    UserWarning
        A cluster keeps the name of its terms, as its namer raised `NamingError`; any other
        exception of a namer is raised.

    Examples
    --------
    >>> def first(terms, examples, siblings):
    ...     return terms[0].title() if terms else examples[0]
    >>> name_clusters(result, texts, namer=first).names  # doctest: +SKIP
    ('Refund', 'Exchange Rate')
    """
    check_range(n_terms, "n_terms", low=1)
    check_range(n_examples, "n_examples", low=0)
    languages = check_languages(language)
    found = (
        source_texts(result, languages=languages)
        if texts is None
        else given_texts(result, texts, languages)
    )
    if found is None:
        raise ValueError(
            "the result has no texts to name clusters by: give name_clusters(result, texts), a "
            "text for each of result.ids (of images, captions), or take name_by_vocabulary"
        )
    asked = _asked_for(result, clusters)
    terms = terms_of(result, found, n_terms)
    names = names_of(result)
    kept = [name for c, name in enumerate(names) if c not in set(asked)]
    first = unique_names([_joined(terms[c], c) for c in asked], kept)
    for c, name in zip(asked, first, strict=True):
        names[c] = name
    if namer is not None:
        calls = _Calls(result, found, terms, names, n_examples)
        shown = track(asked, description="naming", unit="clusters", total=len(asked))
        given = [calls.ask(namer, c) for c in shown]
        result = dataclasses.replace(result, name_audit=(*result.name_audit, *calls.records))
        for c, name in zip(asked, unique_names(given, kept), strict=True):
            names[c] = name
            calls.of_cluster[c]["name"] = name
    return with_names(result, names)


def name_by_terms(
    result: ClusterResult,
    texts: Iterable[str | None] | None = None,
    *,
    n_terms: int = N_TERMS,
    language: str | Sequence[str] = "auto",
) -> ClusterResult:
    """Return the result with all clusters named after their most telling terms.

    Parameters as of `name_clusters`, which leaves the names alone that a person gave.
    """
    every = range(result.n_clusters)
    return name_clusters(result, texts, clusters=every, n_terms=n_terms, language=language)


def name_by_source(result: ClusterResult, *, limit: int = MOST_ROWS) -> ClusterResult:
    """Return the result named after the terms of its own texts, or as it is where it has none."""
    names = source_names(result, limit=limit)
    return result if names is None else with_names(result, names)


def source_names(
    result: ClusterResult, *, found: RowTexts | None = None, limit: int = MOST_ROWS
) -> list[str] | None:
    """Return a name for each cluster by the texts of the result's source, None without texts.

    Parameters
    ----------
    result : ClusterResult
        With its `source`.
    found : RowTexts, optional
        Its texts, where they were read before.
    limit : int
        Rows that are read.
    """
    found = source_texts(result, limit=limit) if found is None else found
    if found is None:
        return None
    return [_joined(terms, c) for c, terms in enumerate(terms_of(result, found, N_TERMS))]


def terms_of(result: ClusterResult, found: RowTexts, n_terms: int) -> list[list[str]]:
    """Return the telling terms of each cluster, best first."""
    labels = result.labels[found.rows]
    return cluster_terms(found.table, labels, picked(result.proba, found.rows), n_terms=n_terms)


def with_names(result: ClusterResult, names: Sequence[str]) -> ClusterResult:
    """Return the result with these names, made unique by a number where they repeat.

    Of an edited result they are one more edit, so that `undo` takes them back.
    """
    from fmcluster.result.editing.apply import edited
    from fmcluster.result.editing.steps import Rename

    if len(names) != result.n_clusters:
        raise ValueError(f"{len(names)} names were given for {result.n_clusters} clusters")
    unique = unique_names(names)
    if not result.pipeline.edits:
        return result.with_pipeline(names=tuple(unique))
    old = result.names or [None] * len(unique)
    new = [(c, name) for c, name in enumerate(unique) if name != old[c]]
    return edited(result, Rename(tuple(new), found=True)) if new else result


@dataclass
class _Calls:
    """Calls of a namer for the clusters of one result, and the records of what was said."""

    result: ClusterResult
    found: RowTexts
    # Of each cluster; those that the namer gives replace the names of terms.
    terms: list[list[str]]
    names: list[str]
    n_examples: int
    records: list[dict[str, Any]] = field(default_factory=list)
    of_cluster: dict[int, dict[str, Any]] = field(default_factory=dict)
    # One after the other; as many as GIVE_UP end it.
    failed: int = 0

    def __post_init__(self) -> None:
        self.near = confusion(self.result.labels, self.result.proba)

    def ask(self, namer: Namer, cluster: int) -> str:
        """Return the name that the namer gives a cluster, or that of its terms."""
        rows, examples = self._examples(cluster)
        siblings = self._siblings(cluster)
        record: dict[str, Any] = {
            "cluster": cluster,
            "name": self.names[cluster],
            "namer": describe(namer),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "terms": self.terms[cluster],
            "example_ids": self.result.ids[rows].tolist(),
            "siblings": siblings,
            "error": None,
        }
        self.of_cluster[cluster] = record
        self.records.append(record)
        if self.failed >= GIVE_UP:
            record["error"] = "not asked: the calls before had failed"
            return self.names[cluster]
        try:
            answer = namer(list(self.terms[cluster]), examples, siblings)
        except NamingError as error:
            record.update(error.audit, error=str(error))
            self._say_failed(cluster, error)
            return self.names[cluster]
        self.failed = 0
        record.update(getattr(answer, "audit", {}))
        self.names[cluster] = checked_name(answer, namer)
        return self.names[cluster]

    def _say_failed(self, cluster: int, error: NamingError) -> None:
        self.failed = GIVE_UP if error.final else self.failed + 1
        kept = f"cluster {cluster} keeps the name of its terms, {self.names[cluster]!r}"
        if self.failed >= GIVE_UP:
            kept += ", and so do all after it"
        warnings.warn(f"{kept}: {error}", UserWarning, stacklevel=5)

    def _examples(self, cluster: int) -> tuple[NDArray[np.int64], list[str]]:
        """Return rows and texts of a cluster, most confident first, none twice."""
        inside = np.flatnonzero(self.result.labels[self.found.rows] == cluster)
        order = np.argsort(-self.result.confidence[self.found.rows[inside]], kind="stable")
        chosen: dict[str, int] = {}
        for place in inside[order].tolist():
            if len(chosen) == self.n_examples:
                break
            chosen.setdefault(" ".join(self.found.texts[place].lower().split()), place)
        places = list(chosen.values())
        return self.found.rows[places], [self.found.texts[place] for place in places]

    def _siblings(self, cluster: int) -> list[str]:
        order = np.argsort(-self.near[cluster], kind="stable")[:N_SIBLINGS]
        return [self.names[c] for c in order.tolist() if self.near[cluster, c] > 0]


def _asked_for(result: ClusterResult, clusters: Sequence[int] | None) -> list[int]:
    """Return the clusters to name, in order."""
    from fmcluster.result.editing.apply import check_cluster

    if clusters is not None:
        return sorted({check_cluster(result, c) for c in clusters})
    if result.names is None:
        return list(range(result.n_clusters))
    found = found_names(result)
    return [c for c, name in enumerate(result.names) if name in found or name == f"cluster {c}"]


def _joined(terms: Sequence[str], cluster: int) -> str:
    return ", ".join(terms) or f"cluster {cluster}"
