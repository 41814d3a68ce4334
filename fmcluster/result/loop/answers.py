"""A person's answers: which class rows have, which pairs are alike; checked, kept, used again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.labels.answers import Contradiction, RowAnswers, close_answers, no_pairs
from fmcluster.utils.ids import IdIndex
from fmcluster.utils.validation import is_missing, label_text, listed

# A class is what JSON holds, so that it comes back from a file as what it was.
PLAIN = (str, bool, int, float)


@dataclass(frozen=True)
class Answers:
    """What was answered so far, by row id.

    Attributes
    ----------
    labels : dict of id to class
    must_link, cannot_link : (m, 2) arrays of ids
        Pairs that belong together, and apart.
    """

    labels: dict[Any, Any] = field(default_factory=dict)
    must_link: NDArray[Any] = field(default_factory=no_pairs)
    cannot_link: NDArray[Any] = field(default_factory=no_pairs)

    def __len__(self) -> int:
        return len(self.labels) + len(self.must_link) + len(self.cannot_link)

    @property
    def classes(self) -> list[Any]:
        """Classes that were named, in order; text after numbers."""
        return sorted(
            dict.fromkeys(self.labels.values()),
            key=lambda c: (isinstance(c, str), c if isinstance(c, str) else float(c)),
        )

    @classmethod
    def of(cls, index: IdIndex, labels: Any, must_link: Any, cannot_link: Any) -> Answers:
        """Check answers about the rows of `index`.

        Parameters
        ----------
        index : IdIndex
        labels : dict of id to class, (ids, classes), or None
        must_link, cannot_link : (m, 2) array-like of ids, or None

        Raises
        ------
        ValueError
            Unknown ids, an id with two classes, a row without a class, pairs of other shape or of
            a row with itself, answers that contradict one another.
        """
        found = cls(
            _labels(index, labels),
            _pairs(index, must_link, "must_link"),
            _pairs(index, cannot_link, "cannot_link"),
        )
        found.rows(index)
        return found

    def joined(self, new: Answers, index: IdIndex) -> Answers:
        """Return these and `new` ones together; ValueError where they contradict one another."""
        labels = _as_named(new.labels, self.labels)
        for key, value in labels.items():
            if key in self.labels and self.labels[key] != value:
                raise ValueError(
                    f"row {key!r} was answered {self.labels[key]!r} before and is {value!r} now: "
                    f"one row has one class; go on from the result before the wrong answer"
                )

        def both(old: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
            pairs = [tuple(sorted(pair)) for pair in [*old.tolist(), *more.tolist()]]
            return _array(list(dict.fromkeys(pairs)))

        found = Answers(
            {**self.labels, **labels},
            both(self.must_link, new.must_link),
            both(self.cannot_link, new.cannot_link),
        )
        found.rows(index)
        return found

    def rows(self, index: IdIndex) -> RowAnswers:
        """Return the answers in row numbers; classes are numbered as in `classes`."""
        number = {value: i for i, value in enumerate(self.classes)}
        found = RowAnswers(
            index.rows_of(list(self.labels)),
            np.array([number[value] for value in self.labels.values()], np.int64),
            len(number),
            index.find(self.must_link).reshape(-1, 2),
            index.find(self.cannot_link).reshape(-1, 2),
        )
        try:
            close_answers(found)
        except Contradiction as error:
            ids = [index.ids[row].item() for row in error.rows]
            chain = ", ".join(map(repr, ids))
            told = "is linked with itself" if len(ids) == 1 else "are linked as alike"
            if error.classes is None:
                what = f"{ids[0]!r} and {ids[-1]!r} are said to differ"
            else:
                named = [self.classes[c] for c in error.classes]
                what = f"their ends are of the classes {named[0]!r} and {named[1]!r}"
            raise ValueError(
                f"answers contradict one another: rows {chain} {told}, but {what}; take one back"
            ) from None
        return found

    def state(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "labels": [[_plain(key), value] for key, value in self.labels.items()],
            "must_link": self.must_link.tolist(),
            "cannot_link": self.cannot_link.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Answers:
        """Make answers of what `state` returned."""
        return cls(
            {key: value for key, value in state["labels"]},
            _array(state["must_link"]),
            _array(state["cannot_link"]),
        )


def _labels(index: IdIndex, labels: Any) -> dict[Any, Any]:
    if labels is None:
        return {}
    if hasattr(labels, "items") and not hasattr(labels, "columns"):
        ids, classes = (
            list(labels.keys()),
            list(labels.values if _is_series(labels) else labels.values()),
        )
    elif _is_two_columns(labels):
        ids, classes = map(_values, labels)
    else:
        raise ValueError(
            f"labels must be a dict of id to class or (ids, classes), got {type(labels).__name__} "
            f"{str(labels)[:60]!r}: dict(pairs) makes one of pairs"
        )
    if len(ids) != len(classes):
        raise ValueError(f"labels hold {len(ids)} ids and {len(classes)} classes: one class an id")
    ids = [_plain(one) for one in ids]
    found: dict[Any, Any] = {}
    for key, given in zip(ids, classes, strict=True):
        if not isinstance(key, Hashable):
            raise ValueError(f"labels name rows by one id each, got {key!r}: give a flat list")
        value = _class(given)
        if value is None:
            raise ValueError(
                f"row {key!r} has no class that can be kept, got {given!r}: give text or a number"
            )
        if found.setdefault(key, value) != value:
            raise ValueError(
                f"row {key!r} is given two classes, {found[key]!r} and {value!r}: one row has one"
            )
    _refuse_skipped(index, list(found))
    rows = index.rows_of(list(found), name="labels")
    return _as_named(dict(zip(index.ids[rows].tolist(), found.values(), strict=True)), {})


def _class(value: Any) -> Any:
    """Return a class as JSON holds it, of another type (a date, a tuple) its text; None of none."""
    value = _plain(value)
    if not isinstance(value, Hashable) or is_missing(value) or value == "":
        return None
    return value if isinstance(value, PLAIN) else label_text(value)


def _as_named(labels: dict[Any, Any], before: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return labels in which a class is what it was first: 1, 1.0 and "1" name one cluster."""
    first: dict[str, Any] = {}
    for value in (*before.values(), *labels.values()):
        first.setdefault(label_text(value), value)
    return {key: first[label_text(value)] for key, value in labels.items()}


def _is_series(labels: Any) -> bool:
    return not callable(labels.values)


def _is_two_columns(labels: Any) -> bool:
    """Return whether these are (ids, classes): two pairs (id, class) in a list are not."""
    if not isinstance(labels, (tuple, list)) or len(labels) != 2:
        return False
    if isinstance(labels, list) and all(isinstance(part, tuple) for part in labels):
        return False
    return all(isinstance(part, Iterable) and not isinstance(part, (str, bytes)) for part in labels)


def _values(part: Any) -> list[Any]:
    """Return ids or classes as they are: of a mixed list, or one with NaN, numpy makes text."""
    return list(np.asarray(part).tolist() if hasattr(part, "__array__") else part)


def _pairs(index: IdIndex, pairs: ArrayLike | None, name: str) -> NDArray[Any]:
    if pairs is None:
        return no_pairs()
    found = np.asarray(listed(pairs))
    if found.size == 0:
        return no_pairs()
    if found.ndim != 2 or found.shape[1] != 2:
        raise ValueError(f"{name} must be pairs of ids, (m, 2), got shape {found.shape}")
    _refuse_skipped(index, found.ravel().tolist())
    index.rows_of(np.unique(found), name=name)
    linked = index.ids[index.find(found)].reshape(-1, 2)
    same = np.flatnonzero(linked[:, 0] == linked[:, 1])
    if len(same):
        raise ValueError(f"{name} links row {linked[same[0], 0].item()!r} with itself: give two")
    return linked


def _refuse_skipped(index: IdIndex, ids: Iterable[Any]) -> None:
    skipped = set(index.left_out)
    lost = [one for one in ids if one in skipped] if skipped else []
    if lost:
        raise ValueError(
            f"row {lost[0]!r} was skipped when the data was read and has no embedding: leave its "
            f"answer out"
        )


def _array(pairs: Any) -> NDArray[Any]:
    return np.asarray(pairs).reshape(-1, 2) if len(pairs) else no_pairs()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
