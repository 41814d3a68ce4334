"""``fmcluster report``: the page of a saved result again, with data, labels or lists added."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fmcluster.cli import incoming, options
from fmcluster.cli.labels import add_labels, load_labels, read_table
from fmcluster.cli.naming import add_naming, named, namer_of

EXAMPLE = "fmcluster report run/ --data tickets.csv --column text --to-label to_label.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_result(parser)
    incoming.add_own_rows(
        parser,
        "the raw data, for examples (default: `data` or `data.*` in the folder, if there)",
        default=incoming.IN_FOLDER,
    )
    parser.add_argument("--projection", choices=("neighbours", "pca", "umap"), default="neighbours")
    parser.add_argument("--title", default="Clusters")
    add_naming(parser)
    add_labels(parser)
    parser.add_argument(
        "--to-label", metavar="FILE", help="CSV that `fmcluster query --out` wrote: listed"
    )
    parser.add_argument(
        "--issues", metavar="FILE", help="CSV that `fmcluster clean --out` wrote: listed"
    )
    options.add_out(parser, "default: report.html in the result's folder", metavar="FILE")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load, attach what was given, write."""
    from fmcluster.result.files import saved_metrics

    namer = namer_of(args)
    result, items = incoming.opened(args)
    renamed = named(args, result, namer, source=items)
    if renamed is not result:  # the names are the result's, not only the page's
        result = renamed
        result.save(args.result, metrics=saved_metrics(args.result))
    y = load_labels(args, result.index, source=items)
    out = Path(args.out) if args.out else Path(args.result) / "report.html"
    chosen = issues = None
    if args.to_label:
        chosen = read_table(args.to_label, ["id"], index=result.index)["id"].to_numpy()
    if args.issues:
        columns = ["id", "given", "suggested", "score"]
        issues = read_table(args.issues, columns, index=result.index)
    path = result.report(
        out,
        items=items,
        labels=y,
        title=args.title,
        projection=args.projection,
        to_label=chosen,
        issues=issues,
    )
    return {
        "report": str(path),
        "bytes": path.stat().st_size,
        "to_label": 0 if chosen is None else len(chosen),
        "issues": 0 if issues is None else len(issues),
    }


def render(payload: dict[str, Any]) -> str:
    """Say where it is, and what it lists."""
    lists = [
        f"{payload[key]:,} {words}"
        for key, words in (("to_label", "samples to label"), ("issues", "suspicious labels"))
        if payload[key]
    ]
    size = f"{payload['bytes'] / 1e6:.1f} MB"
    return f"open {payload['report']} ({', '.join([size, *lists])})"
