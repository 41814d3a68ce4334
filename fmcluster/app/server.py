"""The session behind HTTP: a page, a few files, what it shows and what it does; nothing else."""

from __future__ import annotations

import json
import threading
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fmcluster.app import views
from fmcluster.app.edits import EDITS, ConflictError
from fmcluster.app.guard import FILES, Guard
from fmcluster.app.preview import preview
from fmcluster.utils.stopping import Stopped, stoppable

if TYPE_CHECKING:  # the page is there before what it works with is imported
    from fmcluster.app.work import Work

OWN, SHARED = "fmcluster.app", "fmcluster.result.report"
# The files of the page, by name: no path is ever made of what was asked for. The map and what it is
# made with are the report's.
STATIC = dict.fromkeys(("theme.css", "dom.js", "map.js"), SHARED) | dict.fromkeys(
    ("app.css", "main.js", "ui.js", "clusters.js", "rows.js", "label.js", "drop.js"), OWN
)
TYPES = {".css": "text/css", ".js": "text/javascript"}
# Seconds that a request waits for the result to be loaded, until the page asks again.
LONGEST_WAIT = 20
# Rows that a list shows at a time, and pictures: these take room.
MOST_ROWS = 200
# Statuses of HTTP.
BAD, CONFLICT, LATER, GONE = 400, 409, 503, 404
Json = dict[str, Any]


class Host:
    """What answers requests; `work` is None until the result is loaded.

    Parameters
    ----------
    work : Work, optional
        Given later by `put` where loading goes on while the page opens; requests wait for it.
    folder : Path, optional
        The run, for what is shown meanwhile.
    """

    def __init__(self, work: Work | None = None, *, folder: Path | None = None) -> None:
        self.failure, self._folder = "", folder
        self.work, self._ready = work, threading.Event()
        self.ending = threading.Event()
        if work is not None:
            self._ready.set()

    def put(self, work: Work | None, failure: str = "") -> None:
        """Give what was loaded, or why nothing was."""
        self.work, self.failure = work, failure
        self._ready.set()

    def end(self) -> None:
        """Tell loading, requests and the work beside them to end."""
        self.ending.set()
        self._ready.set()
        if self.work is not None:
            self.work.end()

    # -- what is shown: each takes the query's parameters

    def preview(self, asked: Json) -> bytes:
        """Return the kept map and the saved labels, without waiting for the session."""
        return b"" if self._folder is None else preview(self._folder)

    def state(self, asked: Json) -> Any:
        """Return the session's state."""
        work = self._work()
        return {**views.state(work.session), "busy": work.is_busy, "estimate": work.estimate}

    def clusters(self, asked: Json) -> Any:
        """Return the clusters with their typical rows."""
        session = self._work().session
        return {"version": session.version, "clusters": views.clusters(session)}

    def points(self, asked: Json) -> bytes:
        """Return the map: uint16 x and y of each row; with ``quick``, what is there at once."""
        work = self._work()
        found = work.quick_points() if "quick" in asked else work.points()
        return found.astype("<u2").tobytes()

    def colors(self, asked: Json) -> bytes:
        """Return label, confidence and outlier score of each row."""
        level = int(asked["level"]) if "level" in asked else None
        return views.colors(self._work().session, n_clusters=level)

    def levels(self, asked: Json) -> Any:
        """Return the numbers of clusters worth looking at."""
        found = self._work().session.result.levels
        return [{"n_clusters": each.n_clusters, "is_best": each.is_best} for each in found]

    def level(self, asked: Json) -> Any:
        """Return the clusters of one level."""
        return views.level(self._work().session, int(asked["n_clusters"]))

    def search(self, asked: Json) -> Any:
        """Return rows that have the words."""
        session = self._work().session
        rows = session.rows.find(str(asked.get("words", "")))
        return {"rows": rows.tolist()}

    def similar(self, asked: Json) -> Any:
        """Return rows like one."""
        session = self._work().session
        row = int(self._rows([int(asked["row"])])[0])
        return views.similar(session, row)

    def outliers(self, asked: Json) -> Any:
        """Return rows unlike all others, the least alike first."""
        result = self._work().session.result
        # As `ClusterResult.outliers`.
        return {"rows": result.rows_of(result.outliers(float(asked.get("alpha", 0.01)))).tolist()}

    def added(self, asked: Json) -> Any:
        """Return the rows from one on, those in no cluster first."""
        labels = self._work().session.result.labels
        rows = np.arange(np.clip(int(asked["first"]), 0, len(labels)), len(labels))
        return {"rows": rows[np.argsort(labels[rows] >= 0, kind="stable")].tolist()}

    def answered(self, asked: Json) -> Any:
        """Return rows that were labeled, the last one first."""
        session = self._work().session
        return {"rows": session.result.index.find(list(session.wanted.labels))[::-1].tolist()}

    def queue(self, asked: Json) -> Any:
        """Return rows to label next: of the sample for a certificate, or of `query`."""
        work = self._work()
        session = work.session
        if asked.get("of") == "sample":
            # Five: the next is at hand while one is read, and a page holds few texts in full.
            left = session.sample.left[:5] if session.sample else []
            rows = session.result.rows_of(left) if left else np.empty(0, np.int64)
        else:
            rows = work.next_rows(5)
        # More than in a list: who labels a row has to read it.
        return views.rows(session, rows, length=2_000)

    def pair(self, asked: Json) -> Any:
        """Return two rows to compare, or none."""
        work = self._work()
        ids = work.next_pair(skip=int(asked.get("skip", 0)))
        if ids is None:
            return []
        return views.rows(work.session, work.session.result.rows_of(ids), length=2_000)

    def certificate(self, asked: Json) -> Any:
        """Return what the labeled sample promises."""
        session = self._work().session
        if session.sample is None:
            raise ValueError("no sample was drawn: draw one first")
        # As `ClusterResult.certify`.
        delta = float(asked.get("delta", 0.05))
        return session.sample.certify(session.result, delta=delta).to_dict()

    # -- what is done: each takes the body

    def act(self, body: Json) -> Any:
        """Do one action and return the state after it."""
        session = self._work().session
        op = body.get("op")
        given = {key: value for key, value in body.items() if key not in ("op", "version")}
        if "ids" in given:
            given["ids"] = session.result.index.parse(_list(given["ids"])).tolist()
        if "rows" in given:  # the page knows rows by their place, the result by their id
            rows = self._rows(given.pop("rows"))
            given["ids"] = session.result.ids[rows].tolist()
        if op == "label":
            session.label(given["ids"], _text(given, "label"))
        elif op == "link":
            session.link(given["ids"], same=bool(given["same"]))
        elif op == "undo":
            session.undo()
        elif op == "update":
            how = {key: given.get(key) or None for key in ("column", "id_column", "new_clusters")}
            added = session.update(_text(given, "batch"), **how)
            return {**self.state({}), "added": added}
        elif op == "save":
            session.save()
        elif op == "draw":
            session.draw(int(given["budget"]), float(given["accuracy"]))
        elif op == "check":
            if len(given["ids"]) != 1:
                raise ValueError(f"one row is checked at a time, got {len(given['ids'])}")
            session.check(given["ids"][0], _text(given, "label"))
        elif op in EDITS:
            session.edit(op, given, version=int(body["version"]))
        else:
            raise ValueError(f"action {op!r} is not known")
        return self.state({})

    def discard(self, body: Json) -> Any:
        """Remove dropped files that are not to be taken in."""
        from fmcluster.app import incoming

        incoming.discard(self._work().session.folder, _text(body, "batch"))
        return {}

    def place(self, asked: Json) -> tuple[str, Path, int]:
        """Return the batch of a dropped file, where it goes, and how large it may be."""
        from fmcluster.app import incoming

        session = self._work().session
        reason = incoming.why_not(session.result)
        if reason:
            raise ValueError(reason)
        batch = asked.get("batch") or incoming.new_batch(session.folder)
        path = incoming.place_of(session.folder, batch, str(asked["name"]), session.result)
        return batch, path, incoming.room_left(session.folder, batch)

    def rows(self, body: Json) -> Any:
        """Return a page of the rows whose places are given."""
        session = self._work().session
        return views.rows(session, self._rows(body["rows"])[:MOST_ROWS])

    def table(self, body: Json) -> Response:
        """Return rows as CSV."""
        session = self._work().session
        text = views.table(session, self._rows(body["rows"]))
        return Response(text, media_type="text/csv")

    def _work(self) -> Work:
        self._ready.wait(LONGEST_WAIT)
        if self.work is None:
            raise LoadingError(self.failure)
        return self.work

    def _rows(self, given: Any) -> NDArray[np.int64]:
        rows = np.asarray(given)
        n = self._work().session.result.n_rows
        if rows.ndim != 1 or (len(rows) and rows.dtype.kind != "i"):
            raise ValueError("rows must be a list of whole numbers")
        if len(rows) and not (0 <= rows.min() and rows.max() < n):
            raise ValueError(f"rows must lie in 0..{n - 1}")
        return rows.astype(np.int64)


class LoadingError(Exception):
    """The result is not loaded yet, or could not be."""


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"ids must be a list, got {value!r}")
    return value


def _text(given: Json, name: str) -> str:
    if not isinstance(given.get(name), str):
        raise ValueError(f"{name} must be a text, got {given.get(name)!r}")
    return str(given[name])


VIEWS = (
    "preview", "state", "clusters", "points", "colors", "levels", "level", "search", "similar",
    "outliers", "added", "answered", "queue", "pair", "certificate",
)  # fmt: skip
ACTIONS = ("act", "rows", "table", "discard")


def create_app(host: Host, *, token: str, port: int) -> Guard:
    """Return the guarded ASGI application.

    Parameters
    ----------
    host : Host
        What answers.
    token : str
        What the page must know.
    port : int
        The port that is listened on.
    """
    routes = [Route("/", _page), Route("/static/{name}", _static)]
    routes += [Route(f"/api/{name}", partial(_get, host, name)) for name in VIEWS]
    routes += [
        Route(f"/api/{name}", partial(_post, host, name), methods=["POST"]) for name in ACTIONS
    ]
    routes.append(Route(FILES, partial(_file, host), methods=["POST"]))
    return Guard(Starlette(routes=routes), token=token, port=port)


async def _page(request: Request) -> Response:
    return Response(_read(OWN, "page.html"), media_type="text/html")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return Response("no such file", status_code=GONE)
    return Response(_read(STATIC[name], name), media_type=TYPES[Path(name).suffix])


def _read(package: str, name: str) -> bytes:
    return (files(package) / "static" / name).read_bytes()


async def _get(host: Host, name: str, request: Request) -> Response:
    return await run_in_threadpool(_answered, host, name, dict(request.query_params))


async def _post(host: Host, name: str, request: Request) -> Response:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):  # brackets by the thousand are no action
        body = None
    if not isinstance(body, dict):
        return _refused(BAD, "the body is no JSON object")
    return await run_in_threadpool(_answered, host, name, body)


async def _file(host: Host, request: Request) -> Response:
    """Write a dropped file where it goes, as it comes; the answer is its batch."""
    asked = dict(request.query_params)
    placed = await run_in_threadpool(_answered, host, "place", asked)
    if isinstance(placed, Response):
        return placed
    batch, path, left = placed
    try:
        with path.open("xb") as file:
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    raise ValueError("so many bytes at once are for `fmcluster update`")
                file.write(chunk)
    except Exception as error:
        path.unlink(missing_ok=True)
        if not isinstance(error, (ValueError, OSError)):
            raise
        return _refused(BAD, str(error))
    return JSONResponse({"batch": batch})


def _answered(host: Host, name: str, asked: Json) -> Any:
    """Return what a view or an action gives; what cannot be done is one line."""
    try:
        with stoppable(host.ending):
            found = getattr(host, name)(asked)
    except Stopped:
        return _refused(LATER, "the app is ending")
    except LoadingError as error:
        return _refused(LATER, str(error), loading=not str(error))
    except ConflictError as error:
        return _refused(CONFLICT, str(error))
    except KeyError as error:
        return _refused(BAD, f"{error} is missing")
    except (ValueError, TypeError, ArithmeticError, OSError, ImportError) as error:
        return _refused(BAD, str(error).split("\n")[0])
    if isinstance(found, (Response, tuple)):
        return found
    if isinstance(found, bytes):
        return Response(found, media_type="application/octet-stream")
    return JSONResponse(found)


def _refused(status: int, reason: str, *, loading: bool = False) -> Response:
    return JSONResponse({"error": reason, "loading": loading}, status_code=status)
