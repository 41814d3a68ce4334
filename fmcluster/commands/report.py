"""``fmcluster report``: the page of a saved result again, with data, labels or lists added."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.commands import options

EXAMPLE = "fmcluster report run/ --data tickets.csv --column text --out report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("result", help="folder that `fmcluster cluster --out` wrote")
    parser.add_argument("--data", help="the raw data, for examples")
    parser.add_argument("--column", help="column that holds the texts or images")
    parser.add_argument("--embeddings", metavar="STORE", help="store or .npy, for the map")
    parser.add_argument("--projection", choices=("neighbours", "pca", "umap"), default="neighbours")
    parser.add_argument("--title", default="Clusters")
    options.add_labels(parser)
    parser.add_argument("--out", metavar="FILE", help="default: report.html in the result's folder")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load, attach what was given, write."""
    from fmcluster.data import Source
    from fmcluster.result import ClusterResult

    result = ClusterResult.load(args.result)
    if args.embeddings:
        result = result.attach(options.open_embeddings(args.embeddings))
    items = Source(args.data, column=args.column) if args.data else None
    y = options.load_labels(args, np.asarray(result.ids))
    out = Path(args.out) if args.out else Path(args.result) / "report.html"
    path = result.report(out, items=items, labels=y, title=args.title, projection=args.projection)
    return {"report": str(path), "bytes": path.stat().st_size}


def render(payload: dict[str, Any]) -> str:
    """Say where it is."""
    return f"open {payload['report']} ({payload['bytes'] / 1e6:.1f} MB)"
