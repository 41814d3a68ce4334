"""``fmcluster query``: which samples to label next."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from fmcluster.cli import options
from fmcluster.cli.labels import read_table, write_table

EXAMPLE = "fmcluster query run/ --budget 100 --out to_label.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_result(parser)
    parser.add_argument("--budget", type=int, required=True, metavar="N", help="samples to choose")
    parser.add_argument(
        "--strategy",
        default="auto",
        help="auto, random, typical, centroid, coverage, herding, coreset, uncertain, tail or "
        "certify (rows for `fmcluster certify`)",
    )
    # One row in twenty may be wrong, as for `fmcluster certify`, for which the rows are.
    parser.add_argument(
        "--accuracy",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="with --strategy certify: the share that is to be promised (default: 0.95)",
    )
    parser.add_argument("--embeddings", metavar="STORE", help="store or .npy the result is of")
    parser.add_argument(
        "--labeled", metavar="FILE", help="CSV with a column id (and label): done already"
    )
    about = "CSV (or .parquet) of id, cluster, confidence (and weight)"
    options.add_out(parser, about, metavar="FILE")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Choose and write."""
    import pandas as pd

    from fmcluster.labeling.query import query
    from fmcluster.result.result import ClusterResult

    result = ClusterResult.load(args.result)
    if args.embeddings:
        result = result.attach(options.open_embeddings(args.embeddings))
    labeled = None
    if args.labeled:
        labeled = _labeled(read_table(args.labeled, ["id"], index=result.index))
    weighted = args.strategy == "certify"
    ids = query(
        result,
        budget=args.budget,
        strategy=args.strategy,
        labeled=labeled,
        random_state=args.seed,
        accuracy=args.accuracy,
        return_weights=weighted,
    )
    ids, weights = ids if weighted else (ids, None)
    rows = result.rows_of(ids)
    table = pd.DataFrame(
        {"id": ids, "cluster": result.labels[rows], "confidence": result.confidence[rows]}
    )
    if weights is not None:
        table["weight"] = weights
    if args.out:
        write_table(args.out, table)
    return {
        "ids": np.asarray(ids).tolist(),
        "clusters": table["cluster"].tolist(),
        "strategy": args.strategy,
        "out": args.out,
    }


def _labeled(table: Any) -> Any:
    """Return the labeled ids, with their labels where the file has them."""
    if "label" in table.columns:
        answers = [label or None for label in table["label"]]
        return dict(zip(table["id"].tolist(), answers, strict=True))
    return table["id"].to_numpy()


def render(payload: dict[str, Any]) -> str:
    """Say what was chosen."""
    if payload["out"]:
        return f"{len(payload['ids'])} samples to label, written to {payload['out']}"
    return "\n".join(str(i) for i in payload["ids"])
