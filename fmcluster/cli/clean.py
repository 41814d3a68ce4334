"""``fmcluster clean``: suspicious labels, near-duplicates and outliers."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from fmcluster.cli import options
from fmcluster.cli.labels import add_labels, load_labels, write_table
from fmcluster.utils.ids import IdIndex

# Near-duplicates beyond a row's 20 nearest are joined through one another.
DUPLICATE_NEIGHBORS = 20
EXAMPLE = "fmcluster clean data.parquet --column text --labels-column label --fail-over 0.05"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    options.add_encoder(parser)
    add_labels(parser, required=True)
    parser.add_argument(
        "--fail-over",
        type=float,
        metavar="SHARE",
        help="exit 3 where more than this share of the labels looks wrong",
    )
    # Lower calls rows alike that only say the same, higher misses copies that were touched.
    parser.add_argument("--duplicates", type=float, default=0.99, metavar="COSINE")
    options.add_out(parser, "CSV (or .parquet) of the wrong labels", metavar="FILE")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Find, write, and say whether the share is too large."""
    from fmcluster.labeling.duplicates import find_near_duplicates
    from fmcluster.labeling.inputs import LabelingInput
    from fmcluster.labeling.issues import N_NEIGHBORS, find_label_issues

    if args.fail_over is not None and not 0 <= args.fail_over <= 1:
        raise ValueError(f"--fail-over {args.fail_over}: give a share between 0 and 1")
    store = options.load_data(args)
    ids = np.asarray(store.ids)
    index = IdIndex(ids, tuple(store.skipped_ids))
    labels = load_labels(args, index, source=getattr(store, "source", None))
    assert labels is not None
    inputs = LabelingInput.of(store)
    graph = inputs.neighbors(N_NEIGHBORS)
    issues = find_label_issues(replace(inputs, graph=graph), labels)
    nearest = graph.take(min(DUPLICATE_NEIGHBORS, graph.k))
    duplicates = find_near_duplicates(nearest, threshold=args.duplicates)
    if args.out:
        write_table(args.out, issues)
    share = len(issues) / len(ids)
    return {
        "rows": len(ids),
        "issues": len(issues),
        "share": share,
        "noise_rate": float(issues.attrs.get("noise_rate", share)),
        "near_duplicates": len(duplicates),
        "duplicate_groups": int(duplicates["group"].nunique()),
        # Lines on a terminal; `--out` has all of them.
        "worst": issues.head(10).astype(str).to_dict("records"),
        "out": args.out,
        "fail_over": args.fail_over,
        "check_failed": bool(args.fail_over is not None and share > args.fail_over),
    }


def render(payload: dict[str, Any]) -> str:
    """Say how many and which are the worst."""
    lines = [
        f"{payload['issues']} of {payload['rows']} labels look wrong "
        f"({100 * payload['share']:.1f} %); estimated noise rate "
        f"{100 * payload['noise_rate']:.1f} %; {payload['near_duplicates']} near-duplicates in "
        f"{payload['duplicate_groups']} groups"
    ]
    lines += [
        f"  id {row['id']}: given {row['given']}, suggested {row['suggested']}, "
        f"score {float(row['score']):.3f}"
        for row in payload["worst"]
    ]
    if payload["check_failed"]:
        lines.append(f"check failed: more than {100 * payload['fail_over']:.1f} %")
    return "\n".join(lines)
