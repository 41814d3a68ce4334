"""`Session`: one result that one person works on; everything the page does, without HTTP.

Every action is a call of the result's own methods. It is checked, written to the log, and only then
in force and acknowledged. Answers are taken in by a second thread, which fits beside the person's
work: a fit whose beginnings were changed meanwhile (an edit, an undo) is dropped and begun again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmcluster.app import incoming
from fmcluster.app.edits import ConflictError, apply_edit, state_of
from fmcluster.app.log import SAVED, ActionLog
from fmcluster.app.replay import entries_of, replay, with_answers
from fmcluster.app.rows import Rows
from fmcluster.app.sample import CheckSample
from fmcluster.app.views import figures_of
from fmcluster.result.files import MARKER
from fmcluster.result.loop.answers import Answers
from fmcluster.utils.files import read_json

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Results that undo goes back to: 500 MB of probabilities, but never so few that undo is no use.
HISTORY_BYTES, LEAST_HISTORY, MOST_HISTORY = 500_000_000, 5, 200
# What answers changed, the last of them: the page shows a few.
MOST_CHANGES = 20


@dataclass(frozen=True)
class Action:
    """An action in force, and what was there before it."""

    op: str
    before: ClusterResult
    wanted: Answers
    rows: Rows


class Session:
    """One result, what was done to it, and what is still to be taken in.

    Parameters
    ----------
    result : ClusterResult
        With its embeddings, if answers, splits and finer levels are to work.
    folder : path
        The run: holds the log, and gets the result on `save`.
    source : Source, sequence or None
        The raw data.
    encoder : path, optional
        Where the run's encoder is now, if it was moved: new rows need it.

    Attributes
    ----------
    result : ClusterResult
        As it stands.
    wanted : Answers
        All that was answered; ``result.answers`` are those that the clusters hold already.
    version : int
        Rises when clusters change; `edit` refuses one that is not the present one.
    lost : list of str
        Actions of the log that could not be repeated when it was read.
    """

    def __init__(
        self,
        result: ClusterResult,
        folder: str | Path,
        *,
        source: Any = None,
        encoder: str | None = None,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.result, self.encoder = result, encoder
        self.rows = Rows(source, result.index)
        self.log = ActionLog(self.folder)
        self.lock = threading.RLock()
        self.wanted: Answers = result.answers
        self.version = 0
        self.generation = 0  # of what a fit begins from
        self.actions: list[Action] = []
        self.changes: list[dict[str, Any]] = []
        self.problem = ""
        self.is_saved = True
        self.lost: list[str] = []
        self.sample: CheckSample | None = None
        self.on_answer: Callable[[], None] = lambda: None
        self._looked_at: dict[tuple[int, int], ClusterResult] = {}
        self._marker = self._read_marker()
        self.is_replaying = True
        replay(self, self.log.unsaved())
        self.is_replaying = False
        incoming.sweep(self.folder)

    # -- answers

    def label(self, ids: Sequence[Any], label: str) -> None:
        """Say which class some rows are.

        Raises
        ------
        ValueError
            Unknown ids, an empty class, or one that contradicts an earlier answer.
        """
        with self.lock:
            value = self._class_of(label)
            self.answer(
                {"op": "label", "ids": list(ids), "label": value}, labels={i: value for i in ids}
            )

    def link(self, pair: Sequence[Any], *, same: bool) -> None:
        """Say whether two rows belong together.

        Raises
        ------
        ValueError
            Unknown ids, a row with itself, or a contradiction with an earlier answer.
        """
        with self.lock:
            entry = {"op": "link", "ids": list(pair), "same": bool(same)}
            name = "must_link" if same else "cannot_link"
            self.answer(entry, **{name: np.asarray([list(pair)])})

    def answer(
        self,
        entry: dict[str, Any],
        labels: Any = None,
        must_link: Any = None,
        cannot_link: Any = None,
    ) -> None:
        """Check answers as `ClusterResult.with_answers` takes them, log `entry`, keep them."""
        index = self.result.index
        new = Answers.of(index, labels, must_link, cannot_link)
        if not len(new):
            raise ValueError("no rows were given: choose some first")
        wanted = self.wanted.joined(new, index)
        self._write(entry)
        self.push(entry["op"])
        self.wanted, self.problem = wanted, ""
        self.on_answer()

    def _class_of(self, label: Any) -> Any:
        """Return the class that a text stands for: one that exists keeps its type."""
        text = str(label).strip()
        if not text:
            raise ValueError("the class has no name: give a text")
        return next((c for c in self.wanted.classes if str(c) == text), text)

    @property
    def n_pending(self) -> int:
        """Answers that the clusters do not hold yet."""
        return len(self.wanted) - len(self.result.answers)

    @property
    def has_work(self) -> bool:
        """Whether `take_in` has something to do."""
        return self.n_pending > 0 and not self.problem

    def take_in(self) -> bool:
        """Fit what was answered since, once; return whether the clusters changed.

        A fit that fails leaves everything as it was, and `problem` says why.
        """
        with self.lock:
            base, wanted, generation = self.result, self.wanted, self.generation
            if not self.has_work:
                return False
            if base.embeddings is None:
                self.problem = (
                    "answers are kept but not taken in: the embeddings are not at hand; "
                    "start the app with --embeddings"
                )
                return False
        try:
            fitted = with_answers(base, wanted)
        except (ValueError, TypeError, ArithmeticError) as error:
            with self.lock:
                if self.generation == generation:
                    self.problem = str(error)
            return False
        with self.lock:
            if self.generation != generation:
                return False
            self._write({"op": "fit", "answers": len(fitted.answers)})
            self._note(base, fitted)
            self.put(fitted)
        return True

    def _note(self, before: ClusterResult, after: ClusterResult) -> None:
        change = {
            "answers": len(after.answers) - len(before.answers),
            "moved": int((before.labels != after.labels).sum()),
            "before": figures_of(before),
            "after": figures_of(after),
        }
        self.changes = [*self.changes, change][-MOST_CHANGES:]

    # -- edits

    def edit(self, op: str, given: Mapping[str, Any], *, version: int | None = None) -> None:
        """Merge, split, rename, move, dissolve, or go to another level.

        Parameters
        ----------
        op : str
            One of `fmcluster.app.edits.EDITS`.
        given : mapping
            Its arguments, as in `ClusterResult.edits`.
        version : int, optional
            The clusters that the numbers are of.

        Raises
        ------
        ConflictError
            The clusters are others by now.
        ValueError, TypeError
            An edit that cannot be made; nothing is changed.
        """
        with self.lock:
            base = self.result
            if version is not None and version != self.version:
                raise ConflictError("the clusters have changed meanwhile: look again")
        after = apply_edit(base, op, given)  # a split takes a while: others may go on
        with self.lock:
            if self.result is not base:
                raise ConflictError("the clusters have changed meanwhile: look again")
            self._write({"op": op, **given, "before": state_of(base)})
            self.push(op)
            self.put(after)
            self.generation += 1

    def update(
        self,
        batch: str,
        *,
        column: str | None = None,
        id_column: str | None = None,
        new_clusters: str | None = None,
    ) -> dict[str, int]:
        """Take in the rows of a batch that was dropped (`fmcluster.app.incoming`).

        Returns
        -------
        dict
            ``first`` row, number of ``rows``, of those ``novel`` and of those ``left_out``.

        Raises
        ------
        ConflictError
            The clusters are others by now.
        ValueError, OSError, ImportError
            Rows that cannot be taken, or an encoder that is not there; nothing is changed.
        """
        with self.lock:
            base, rows = self.result, self.rows
        how: dict[str, Any] = {"column": column, "id_column": id_column}
        grown, dropped = incoming.take(
            base, self.folder, batch, new_clusters=new_clusters, encoder=self.encoder, **how
        )
        source = incoming.joined(rows.source, dropped, base.ids, base.index.n_source)
        with self.lock:
            if self.result is not base:
                raise ConflictError("the clusters have changed meanwhile: take the rows in again")
            incoming.keep(self.folder, batch, base, grown, **how)
            entry = {"op": "update", "batch": batch, **how, "new_clusters": new_clusters}
            self._write({**entry, "before": state_of(base)})
            self.push("update")
            self.rows = Rows(source, grown.index)
            self.put(grown)
            self.generation += 1
        about = grown.provenance["updates"][-1]
        return {
            "first": base.n_rows,
            "rows": about["rows"],
            "novel": int((grown.labels[base.n_rows :] < 0).sum()),
            "left_out": about["left_out"],
        }

    def undo(self) -> str:
        """Take the last action back, an answer or an edit, and return which it was.

        Raises
        ------
        ValueError
            There is none.
        """
        with self.lock:
            result = self.result
            if not self.actions and not result.edits:
                raise ValueError("nothing to undo")
            op = self.actions[-1].op if self.actions else str(result.edits[-1]["op"])
            before = self.actions[-1].before if self.actions else result.undo()
            self._write({"op": "undo", "of": op})
            if self.actions:
                last = self.actions.pop()
                self.wanted, self.rows = last.wanted, last.rows
            self.generation += 1
            self.problem = ""
            if before is not result:
                self.put(before)
            self.on_answer()
            return op

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to take back."""
        return bool(self.actions or self.result.edits)

    def at_level(self, n_clusters: int) -> ClusterResult:
        """Return the result at another level, to be looked at; the session's own stays."""
        with self.lock:
            result, key = self.result, (self.version, n_clusters)
        if key not in self._looked_at:
            found = result.at_level(n_clusters)
            kept = {k: v for k, v in self._looked_at.items() if k[0] == key[0]}
            self._looked_at = {**dict(list(kept.items())[-3:]), key: found}
        return self._looked_at[key]

    # -- the sample that certifies

    def draw(self, budget: int, accuracy: float) -> None:
        """Draw rows for `certify`; they are labeled by `check` and are no answers.

        Raises
        ------
        ValueError
            Answers are being taken in, after which the clusters are others; or as `query`.
        """
        if self.has_work:
            raise ValueError(
                f"{self.n_pending} answer(s) are being taken in and will change the clusters: "
                "draw when they are"
            )
        sample = CheckSample.draw(self.result, budget, accuracy)
        with self.lock:
            self._write({"op": "draw", **sample.state(), "labels": []})
            self.sample = sample

    def check(self, one: Any, label: str) -> None:
        """Say which class a row of the sample is."""
        with self.lock:
            if self.sample is None:
                raise ValueError("no sample was drawn: draw one first")
            sample = self.sample.with_label(one, str(label).strip())
            self._write({"op": "check", "ids": [one], "label": str(label).strip()})
            self.sample = sample

    # -- to disk

    def save(self) -> None:
        """Write the result into the run folder; answers that are not taken in yet stay in the log.

        Raises
        ------
        ConflictError
            Another program has written the folder since it was opened.
        """
        with self.lock:
            if self._read_marker() != self._marker:
                raise ConflictError(
                    f"{self.folder.name}/ was written by another program since it was opened: "
                    "start the app again"
                )
            self.result.save(self.folder)
            self._marker = self._read_marker()
            pending = entries_of(self.wanted, self.result.answers)
            if self.sample is not None:
                pending.append({"op": "draw", **self.sample.state()})
            self.log.append({"op": SAVED, "pending": pending})
            self.is_saved = True
            incoming.sweep(self.folder, saved=self.result)

    def _read_marker(self) -> Any:
        path = self.folder / MARKER
        return read_json(path).get("digest") if path.is_file() else None

    def _write(self, entry: dict[str, Any]) -> None:
        if not self.is_replaying:
            self.log.append(entry)
        self.is_saved = False

    def push(self, op: str) -> None:
        """Remember what is there now, before an action."""
        keep = int(np.clip(HISTORY_BYTES // self.result.proba.nbytes, LEAST_HISTORY, MOST_HISTORY))
        self.actions = [*self.actions, Action(op, self.result, self.wanted, self.rows)][-keep:]

    def put(self, result: ClusterResult) -> None:
        """Let a result with other clusters be the present one."""
        self.result = result
        self.version += 1
