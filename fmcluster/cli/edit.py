"""``fmcluster edit``: merge, split, rename, move and dissolve clusters of a saved result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from fmcluster.cli import incoming, options
from fmcluster.cli.places import noted_embeddings

EXAMPLE = "fmcluster edit run/ --merge 3,7 --rename 3=billing --split 5 --out run2/"


class _Step(argparse.Action):
    """Keep edits in the order of the command line, as (operation, text), in `steps`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        text = "" if isinstance(values, list) else str(values)
        namespace.steps = [*(getattr(namespace, "steps", None) or []), (self.dest, text)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Edits are made in the order given; cluster numbers are those of the result's report, "
        "whatever edits stand before, and new parts of a split get the next numbers."
    )
    options.add_result(parser)
    parser.add_argument("--merge", metavar="A,B,...", help="join clusters", action=_Step)
    parser.add_argument("--rename", metavar="CLUSTER=NAME", help="name a cluster", action=_Step)
    parser.add_argument(
        "--split", metavar="CLUSTER", help="split a cluster; needs its embeddings", action=_Step
    )
    parser.add_argument(
        "--into",
        metavar="N",
        help="into how many parts the --split before it goes (default: 2), or auto",
        action=_Step,
    )
    parser.add_argument(
        "--move",
        metavar="ID=CLUSTER",
        help="put a row where it belongs; repeat for more",
        action=_Step,
    )
    parser.add_argument(
        "--dissolve", metavar="CLUSTER", help="its rows go to the next best clusters", action=_Step
    )
    parser.add_argument(
        "--undo", nargs=0, help="take the last edit back; repeat for more", action=_Step
    )
    incoming.add_own_rows(
        parser,
        "the raw data: embedded again for --split, names its parts",
        default="those in the cache, or the file that was clustered where it is what it was",
    )
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    options.add_out(parser, "folder of the edited result", required=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load, edit step by step, save."""
    steps = parse_steps(getattr(args, "steps", None) or [])
    out = options.result_place(args.out)
    result = _load(args, needs_rows=any(step["op"] == "split" for step in steps))
    before, numbers = result, Numbers(result.n_clusters)
    for step in steps:
        result = _apply(result, step, numbers)
    result.save(out)
    report = None if args.no_report else str(result.report(out / "report.html", title=out.name))
    return {
        "out": str(out),
        "report": report,
        "rows": result.n_rows,
        "n_clusters": result.n_clusters,
        "n_clusters_before": before.n_clusters,
        "numbers": numbers.changed(),
        "sizes": result.sizes.tolist(),
        "names": None if result.names is None else list(result.names),
        "mean_confidence": float(result.confidence.mean()),
        "edits": list(result.edits),
    }


class Numbers:
    """Where the clusters that a person reads in a report are now, after some edits."""

    now: dict[int, int]
    known: int

    def __init__(self, n_clusters: int) -> None:
        self.restart(n_clusters)

    def restart(self, n_clusters: int) -> None:
        """Take every number for what it is."""
        self.now = {number: number for number in range(n_clusters)}
        self.known = n_clusters

    def __call__(self, cluster: int) -> int:
        """Return the present number of a cluster of the report."""
        if cluster not in self.now:
            gone = 0 <= cluster < self.known
            state = "was dissolved" if gone else f"is outside 0..{self.known - 1}"
            raise ValueError(f"cluster {cluster} {state}: numbers are those of the report")
        return self.now[cluster]

    def follow(self, steps: Any, n_before: int) -> None:
        """Take in what edits of `n_before` clusters did to the numbers."""
        for step in steps:
            new, n_after = step.numbers(n_before), step.count(n_before)
            self.now = {old: int(new[at]) for old, at in self.now.items() if new[at] >= 0}
            for number in range(n_before, n_after):  # parts of a split
                self.now[self.known] = number
                self.known += 1
            n_before = n_after

    def changed(self) -> dict[str, int | None]:
        """Return the clusters whose number is another now; None for those that are gone."""
        found = {str(old): self.now.get(old) for old in range(self.known)}
        return {old: now for old, now in found.items() if str(now) != old}


def parse_steps(given: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Turn options in order into edits as of `ClusterResult.edits`.

    Raises
    ------
    ValueError
        Nothing to do, or an option that is not written as it should be.
    """
    if not given:
        raise ValueError("no edit was given: name at least one, such as --merge 3,7")
    steps: list[dict[str, Any]] = []
    for option, text in given:
        if option == "into":
            if not steps or steps[-1]["op"] != "split":
                raise ValueError(f"--into {text} stands after no --split: write --split 5 --into 3")
            steps[-1]["into"] = text if text == "auto" else _number(text, f"--into {text}")
            continue
        step, last = PARSERS[option](text), steps[-1] if steps else {}
        if step["op"] == "move" == last.get("op") and step["cluster"] == last["cluster"]:
            last["ids"] += step["ids"]
        else:
            steps.append(step)
    return steps


def _number(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no cluster number") from None


def _parse_pair(option: str, text: str) -> tuple[str, str]:
    """Split at the last "=" of a move (ids may hold one), the first of a name."""
    left, equals, right = text.rpartition("=") if option == "move" else text.partition("=")
    if not (left and equals and right):
        example = "ticket-4=6" if option == "move" else "3=billing"
        raise ValueError(f"--{option} {text!r}: write it as --{option} {example}")
    return left, right


def _merge(text: str) -> dict[str, Any]:
    return {"op": "merge", "clusters": [_number(c, f"--merge {text}") for c in text.split(",")]}


def _rename(text: str) -> dict[str, Any]:
    cluster, name = _parse_pair("rename", text)
    return {"op": "rename", "names": {_number(cluster, f"--rename {text}"): name}}


def _move(text: str) -> dict[str, Any]:
    row, cluster = _parse_pair("move", text)
    return {"op": "move", "ids": [row], "cluster": _number(cluster, f"--move {text}")}


PARSERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "merge": _merge,
    "rename": _rename,
    "move": _move,
    "split": lambda text: {"op": "split", "cluster": _number(text, f"--split {text}"), "into": 2},
    "dissolve": lambda text: {"op": "dissolve", "cluster": _number(text, f"--dissolve {text}")},
    "undo": lambda _: {"op": "undo"},
}


def _apply(result: Any, step: dict[str, Any], numbers: Numbers) -> Any:
    """Make one edit by the numbers of the report."""
    from fmcluster.result.loop.edits import apply_edits

    if step["op"] == "undo":
        undone = result.undo()
        numbers.restart(undone.n_clusters)
        return undone
    step = dict(step)
    if "clusters" in step:
        step["clusters"] = [numbers(c) for c in step["clusters"]]
    if "cluster" in step:
        step["cluster"] = numbers(step["cluster"])
    if "names" in step:
        step["names"] = {numbers(c): name for c, name in step["names"].items()}
    if "ids" in step:
        step["ids"] = result.index.parse(step["ids"])
    after = apply_edits(result, [step])
    numbers.follow(after.pipeline.edits[len(result.pipeline.edits) :], result.n_clusters)
    return after


def _load(args: argparse.Namespace, *, needs_rows: bool) -> Any:
    """Return the result and what a split needs: embeddings given, of the cache, or made again."""
    import dataclasses

    from fmcluster.result.result import ClusterResult

    if args.data:
        options.check_there(args.data)
    result = incoming.load_result(args) if needs_rows else ClusterResult.load(args.result)
    source = None
    if args.data:
        source = incoming.rows_of(args, result)
        result = dataclasses.replace(result, source=source)
    if result.embeddings is not None or not needs_rows:
        return result
    if source is None:
        noted = noted_embeddings(args, result)
        if noted is not None and len(noted) == result.n_rows:
            return result.attach(noted)
        raise ValueError(
            "--split needs the embeddings of the result, and they are neither in the cache nor "
            "where they were: give --embeddings STORE, or --data with the data that was clustered"
        )
    found = result.pipeline.predict_rows(source, on_error="mark", keep_rows=True)
    rows = _rows_of(found.ids, result)
    xs = [x[rows] for x in found.xs]
    return dataclasses.replace(result, embeddings=xs[0] if len(xs) == 1 else xs)


def _rows_of(ids: Any, result: Any) -> Any:
    """Return where each row of the result is in the data."""
    from fmcluster.utils.ids import IdIndex

    rows = IdIndex(np.asarray(ids)).find(result.ids)
    if (rows < 0).any():
        lost = result.ids[rows < 0][0].item()
        raise ValueError(
            f"--data lacks {int((rows < 0).sum())} row(s) of the result, such as {lost!r}: give "
            "the data that was clustered, and --id-column where its ids are in a column"
        )
    return rows


def render(payload: dict[str, Any]) -> str:
    """Say what came out, and which numbers are new."""
    lines = [
        f"{payload['n_clusters_before']} clusters are {payload['n_clusters']} now, mean confidence "
        f"{100 * payload['mean_confidence']:.1f} %"
    ]
    moved = [
        f"{old} is gone" if now is None else f"{old} is now {now}"
        for old, now in payload["numbers"].items()
    ]
    if moved:
        lines.append("numbers: " + ", ".join(moved))
    lines.append(f"{len(payload['edits'])} edit(s) in all; --undo takes the last back")
    lines.append(f"open {payload['report'] or payload['out']}")
    return "\n".join(lines)
