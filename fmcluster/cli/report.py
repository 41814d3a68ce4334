"""``fmcluster report``: the page of a saved result again, with data, labels or lists added."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fmcluster.cli import options
from fmcluster.cli.labels import add_labels, load_labels, read_table
from fmcluster.cli.naming import add_naming, named, namer_of
from fmcluster.cli.options import new_file

EXAMPLE = "fmcluster report run/ --data tickets.csv --column text --to-label to_label.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("result", help="folder that `fmcluster cluster --out` wrote")
    parser.add_argument(
        "--data",
        help="the raw data, for examples (default: `data` or `data.*` in the folder, if there)",
    )
    options.add_column(parser)
    parser.add_argument(
        "--id-column", help="column that holds row ids (default: the one at clustering)"
    )
    parser.add_argument(
        "--embeddings",
        metavar="STORE",
        help="store or .npy, for the map (default: `store` in the folder, or that in the cache)",
    )
    parser.add_argument("--cache-dir", help="where stores are kept when no folder is named")
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
    parser.add_argument(
        "--out",
        type=new_file,
        metavar="FILE",
        help="default: report.html in the result's folder",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load, attach what was given, write."""
    from fmcluster.app import incoming as dropped
    from fmcluster.cli.incoming import data_of, load_result, rows_of, store_of
    from fmcluster.result.files import saved_metrics

    namer = namer_of(args)
    args.embeddings = args.embeddings or store_of(args.result)
    folder = Path(args.result)
    result = load_result(args, rejoin=lambda result, own: dropped.rejoined(result, own, folder))
    args.data = args.data or data_of(args.result)
    items = rows_of(args, result) if args.data else None
    items = dropped.source_of(result, items, folder)
    renamed = named(args, result, namer, source=items)
    if renamed is not result:  # the names are the result's, not only the page's
        result = renamed
        result.save(args.result, metrics=saved_metrics(args.result))
    y = load_labels(args, result.index, data=args.data, source=items)
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
