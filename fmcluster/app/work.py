"""What goes on beside the person's work: fits of answers, the queue, the map, the estimate."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.app.layout import kept_points, points_of, quick_points, with_new_rows
from fmcluster.app.session import Session
from fmcluster.labeling.propagate import propagate
from fmcluster.labeling.query import query
from fmcluster.labeling.query_pairs import query_pairs
from fmcluster.result.loop.answers import Answers
from fmcluster.utils.stopping import Stopped, stoppable

logger = logging.getLogger(__name__)
# Rows and pairs that are chosen at a time, and how few may be left before more are.
CHOSEN, FEW = 20, 5
# Rows above which a choice takes seconds, so that nobody should wait for it.
MANY = 5_000


class Work:
    """A second thread that keeps a session's results up to date.

    Parameters
    ----------
    session : Session
        Whose answers are taken in.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._estimated: tuple[Answers, dict[str, float]] | None = None
        self.is_busy = False
        self._queue: list[Any] = []
        self._pairs: list[list[Any]] = []
        self._choosing, self._mapping = threading.Lock(), threading.Lock()
        self._points: NDArray[np.uint16] | None = None
        self._placed: NDArray[Any] = np.empty(0)  # whose points they are
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, and go on until `stop`."""
        self.session.on_answer = self._wake.set
        self._thread = threading.Thread(target=self._run, name="fmcluster-app")
        self._thread.start()
        self._wake.set()

    def end(self) -> None:
        """Tell what is being done to end; it does between two rounds."""
        self._stopped.set()
        self._wake.set()

    def stop(self) -> None:
        """End, and return when nothing goes on any more."""
        self.end()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with stoppable(self._stopped):
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._stopped.is_set():
                    return
                try:
                    self.catch_up()
                except Stopped:
                    return
                except Exception as error:  # the page goes on; the next answer tries again
                    logger.exception("answers could not be taken in")
                    self.session.problem = f"answers are kept but could not be taken in: {error}"

    def catch_up(self) -> None:
        """Take in all answers, then choose what to ask next and estimate how right rows are."""
        self.is_busy = True
        try:
            changed = False
            while self.session.has_work:  # a fit that an edit overtook is begun again
                changed = self.session.take_in() or changed
            if changed:
                self._estimate()
            if changed or len(self._open_rows()) < FEW:
                self._choose()
        finally:
            self.is_busy = False

    @property
    def estimate(self) -> dict[str, float] | None:
        """How right `propagate` expects to be by the answers, with its interval."""
        known = self._estimated
        return known[1] if known and known[0] is self.session.result.answers else None

    def _estimate(self) -> None:
        session = self.session
        answers = session.result.answers
        labels = answers.labels
        if len(set(map(str, labels.values()))) < 2:
            return
        found = propagate(session.result, list(labels), [str(v) for v in labels.values()])
        low, high = found.accuracy_interval
        told = {"accuracy": found.expected_accuracy, "low": low, "high": high}
        self._estimated = (answers, told)

    # -- what to ask

    def next_rows(self, count: int) -> NDArray[np.int64]:
        """Return rows to label next, most valuable first.

        Of many rows the first choice takes a while: until it is made, the surest row of each
        cluster is asked about, which says what the clusters are.
        """
        result = self.session.result
        if not self._open_rows():
            if result.n_rows > MANY:
                self._wake.set()
                return self._surest()[:count]
            self._choose()
        return result.rows_of(self._open_rows()[:count])

    def _surest(self) -> NDArray[np.int64]:
        """Return the surest row of each cluster that has no answer, largest cluster first."""
        result, answered = self.session.result, self.session.wanted.labels
        free = np.ones(result.n_rows, bool)
        free[result.index.find(list(answered))] = False
        free &= result.labels >= 0
        order = np.flatnonzero(free)
        order = order[np.argsort(-result.confidence[order], kind="stable")]
        label, first = np.unique(result.labels[order], return_index=True)
        return order[first[np.argsort(-result.sizes[label], kind="stable")]]

    def _open_rows(self) -> list[Any]:
        answered = self.session.wanted.labels
        # Rows that an undo took away are asked about no more.
        known = self.session.result.index.find(self._queue) >= 0
        there = zip(self._queue, known, strict=True)
        return [one for one, is_there in there if is_there and one not in answered]

    def _choose(self) -> None:
        session = self.session
        with self._choosing:
            wanted = session.wanted.labels
            left = session.result.n_rows - len(wanted)
            if left < 1:
                self._queue = []
                return
            labeled = {one: str(value) for one, value in wanted.items()} or None
            chosen = query(session.result, min(CHOSEN, left), labeled=labeled)
            self._queue = chosen.tolist()

    def next_pair(self, *, skip: int = 0) -> list[Any] | None:
        """Return two ids to ask "same or different?", or None where no pair is open.

        Parameters
        ----------
        skip : int
            How many of the chosen pairs to pass over; after the last one comes the first.
        """
        session = self.session
        with self._choosing:
            told = {
                tuple(sorted(pair))
                for pairs in (session.wanted.must_link, session.wanted.cannot_link)
                for pair in pairs.tolist()
            }
            labels = session.wanted.labels

            def left() -> list[list[Any]]:
                return [
                    pair
                    for pair in self._pairs
                    if tuple(sorted(pair)) not in told
                    and (session.result.index.find(pair) >= 0).all()
                    and not (pair[0] in labels and pair[1] in labels)
                ]

            if not left():
                try:
                    self._pairs = query_pairs(session.result, CHOSEN).tolist()
                except ValueError:  # fewer pairs are open
                    return None
            pairs = left()
            return pairs[skip % len(pairs)] if pairs else None

    # -- the map

    def quick_points(self) -> NDArray[np.uint16]:
        """Return where the rows are on the map, or roughly so while it is being laid out."""
        if self._points is None:
            kept = kept_points(self.session.result, self.session.folder)
            return quick_points(self.session.result) if kept is None else kept
        return self.points()

    def points(self) -> NDArray[np.uint16]:
        """Return where the rows are on the map; the first call takes a while."""
        with self._mapping:
            result, folder = self.session.result, self.session.folder
            if self._points is None:
                self._points, self._placed = points_of(result, folder), result.ids
            # Rows that came, or went by an undo; the others stay where they are.
            n = min(len(self._placed), result.n_rows)
            same = int(np.argmin(np.append(self._placed[:n] == result.ids[:n], False)))
            if same < result.n_rows:
                self._points = with_new_rows(self._points[:same], result, folder)
                self._placed = result.ids
            return self._points[: result.n_rows]
