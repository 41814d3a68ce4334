"""A session's log done again, after a crash or an end without a save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.app.edits import EDITS, state_of
from fmcluster.app.sample import CheckSample
from fmcluster.result.loop.answers import Answers

if TYPE_CHECKING:
    from fmcluster.app.session import Session
    from fmcluster.result.result import ClusterResult

# Answers, and what stands between them and changes no cluster.
ANSWERS = ("label", "link", "fit")
# What is made on the clusters as they were.
ON_CLUSTERS = (*EDITS, "update")
# Answers that are taken one by one, so that undo goes back to each of them.
LAST = 200


def replay(session: Session, entries: list[dict[str, Any]]) -> None:
    """Do again what the log holds since the last save.

    An edit is made only on the clusters that it was made on: otherwise, and for whatever else
    cannot be done again, `Session.lost` says so.
    """
    known = {len(session.wanted): session.wanted}
    last = max((at for at, entry in enumerate(entries) if entry["op"] in ON_CLUSTERS), default=-1)
    start = _take_many(session, entries)
    for at, entry in enumerate(entries[start:], start):
        try:
            # What edits were made on must be there again; other fits can wait.
            _repeat(session, entry, known, is_needed=at < last)
        except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
            session.lost.append(f"{entry['op']}: {error}")
            if entry["op"] in ON_CLUSTERS or entry["op"] in ("label", "link"):
                session.push(entry["op"])  # its undo takes nothing else back
        known[len(session.wanted)] = session.wanted
    session.generation += 1


def _take_many(session: Session, entries: list[dict[str, Any]]) -> int:
    """Take thousands of answers at once, all but the last; return how many.

    One by one, each is held against all before it.
    """
    ops = [entry["op"] for entry in entries]
    count = next((at for at, op in enumerate(ops) if op not in ANSWERS), len(ops)) - LAST
    if count <= 0 or "undo" in ops or any(op in ON_CLUSTERS for op in ops):
        return 0
    first, index = entries[:count], session.result.index
    try:
        labels = {i: e["label"] for e in first if e["op"] == "label" for i in e["ids"]}
        must, cannot = (
            np.asarray([e["ids"] for e in first if e["op"] == "link" and e["same"] is same])
            for same in (True, False)
        )
        session.wanted = session.wanted.joined(Answers.of(index, labels, must, cannot), index)
    except (ValueError, TypeError, KeyError):  # one of them is wrong: it is found one by one
        return 0
    session.is_saved = False
    return count


def _repeat(
    session: Session, entry: dict[str, Any], known: dict[int, Answers], *, is_needed: bool
) -> None:
    op = entry["op"]
    if op == "label":
        value = entry["label"]
        session.answer(entry, labels={i: value for i in entry["ids"]})
    elif op == "link":
        session.link(entry["ids"], same=entry["same"])
    elif op == "fit":
        if is_needed and session.result.embeddings is not None:
            session.put(with_answers(session.result, known[entry["answers"]]))
    elif op == "draw":
        session.sample = CheckSample.of(entry)
    elif op == "check":
        session.check(entry["ids"][0], entry["label"])
    elif op == "undo":
        _undo(session, entry["of"])
    else:
        if entry.get("before") != state_of(session.result):
            raise ValueError("the clusters it was made on are not there")
        given = {key: v for key, v in entry.items() if key not in ("op", "before")}
        if op == "update":
            session.update(**given)
        else:
            session.edit(op, given)


def _undo(session: Session, op: str) -> None:
    """Take the last action back, if it is the one that was taken back then."""
    there = session.actions[-1].op if session.actions else None
    if there is None and session.result.edits:
        there = session.result.edits[-1]["op"]
    if there != op:
        raise ValueError(f"no {op} is there to take back")
    session.undo()


def with_answers(base: ClusterResult, wanted: Answers) -> ClusterResult:
    """Return `base` with the answers of `wanted` that it does not hold."""
    held = base.answers
    return base.with_answers(
        labels={one: value for one, value in wanted.labels.items() if one not in held.labels},
        must_link=wanted.must_link[len(held.must_link) :],
        cannot_link=wanted.cannot_link[len(held.cannot_link) :],
    )


def entries_of(wanted: Answers, held: Answers) -> list[dict[str, Any]]:
    """Return the log entries of answers that are wanted and not held."""
    found: list[dict[str, Any]] = [
        {"op": "label", "ids": [one], "label": value}
        for one, value in wanted.labels.items()
        if one not in held.labels
    ]
    for same, name in ((True, "must_link"), (False, "cannot_link")):
        pairs = getattr(wanted, name)[len(getattr(held, name)) :].tolist()
        found += [{"op": "link", "ids": pair, "same": same} for pair in pairs]
    return found
