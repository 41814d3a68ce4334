"""``fmcluster update``: new data into a saved result; old rows keep cluster and id."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from fmcluster.cli import incoming, options

EXAMPLE = "fmcluster update run/ new.csv --column text --new-clusters auto --out run2/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    incoming.add_new_data(parser)
    parser.add_argument("--id-column", help="column that holds row ids (default: as clustered)")
    parser.add_argument(
        "--new-clusters",
        choices=("none", "auto"),
        default="none",
        help="auto: cluster the rows that fit no cluster (default: they stay -1)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="SHARE",
        help="of the rows said to fit nothing, how many may be chance (default: 0.05)",
    )
    options.add_on_error(parser)
    parser.add_argument(
        "--on-known",
        choices=("raise", "skip"),
        default="raise",
        help="what to do with rows whose id the result has (default: raise)",
    )
    options.add_out(parser, "folder of the grown result", required=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read, encode, assign, save."""
    out = options.result_place(args.out)
    result = incoming.load_result(args)
    grown = result.update(
        incoming.new_data(args),
        new_clusters=None if args.new_clusters == "none" else args.new_clusters,
        column=args.column,
        id_column=args.id_column,
        encoder=args.encoder,
        on_error=args.on_error,
        on_known=args.on_known,
        batch_size=args.batch_size,
        device=args.device,
        **({} if args.alpha is None else {"alpha": args.alpha}),
    )
    grown.save(out)
    new = slice(result.n_rows, None)
    about = grown.provenance["updates"][-1]
    return {
        "out": str(out),
        "rows": grown.n_rows,
        "new_rows": about["rows"],
        "left_out": about["left_out"],
        "n_clusters": grown.n_clusters,
        "new_clusters": list(range(result.n_clusters, grown.n_clusters)),
        "fit_nothing": about["fit_nothing"],
        "novel": grown.novel.tolist(),
        "new_sizes": _sizes(grown.labels[new], grown.n_clusters),
        "mean_confidence": float(grown.confidence[new].mean()),
        "has_graph": grown.graph is not None,
    }


def _sizes(labels: Any, n_clusters: int) -> list[int]:
    return np.bincount(labels[labels >= 0], minlength=n_clusters).tolist()


def render(payload: dict[str, Any]) -> str:
    """Say what came out."""
    lines = [f"{payload['new_rows']} new rows, {payload['rows']} in all"]
    if payload["left_out"]:
        lines[0] += f"; {payload['left_out']} were left out"
    lines.append(f"{payload['fit_nothing']} of the new rows fit no cluster there was")
    if payload["new_clusters"]:
        numbers = ", ".join(map(str, payload["new_clusters"]))
        lines.append(f"new clusters: {numbers} (of {payload['n_clusters']})")
    if payload["novel"]:
        some = ", ".join(map(str, payload["novel"][:10]))
        lines.append(f"{len(payload['novel'])} rows are in no cluster: {some}")
    lines.append(f"written to {payload['out']}")
    return "\n".join(lines)
