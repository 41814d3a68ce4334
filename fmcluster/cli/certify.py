"""``fmcluster certify``: promise a share of right labels, as far as a random sample allows."""

from __future__ import annotations

import argparse
from typing import Any

from fmcluster.cli import options
from fmcluster.cli.labels import ANSWER_COLUMNS, read_table
from fmcluster.utils.errors import DataError

EXAMPLE = "fmcluster certify run/ --answers answers.csv --accuracy 0.95 --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_result(parser)
    parser.add_argument(
        "--answers",
        required=True,
        metavar="FILE",
        help="table with columns id and label (and weight) of the rows that "
        "`fmcluster query --strategy certify` or `--strategy random` drew, all of them",
    )
    # One row in twenty may be wrong; a higher promise holds for fewer rows.
    parser.add_argument(
        "--accuracy", type=float, default=0.95, metavar="SHARE", help="to promise (default: 0.95)"
    )
    # One promise in twenty may be false, the usual level; less takes more labels.
    parser.add_argument(
        "--delta",
        type=float,
        default=0.05,
        metavar="CHANCE",
        help="how often a promise may be false (default: 0.05)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read the answers and test; the check fails where nothing can be promised."""
    import numpy as np

    from fmcluster.result.result import ClusterResult

    result = ClusterResult.load(args.result)
    table = read_table(args.answers, ["id"], index=result.index)
    column = next((c for c in ANSWER_COLUMNS if c in table), None)
    if column is None:
        raise DataError(f"{args.answers} has columns {list(table.columns)}: a label is needed")
    weights = None
    if "weight" in table:
        try:
            weights = table["weight"].astype(float).to_numpy()
        except ValueError as error:
            raise DataError(f"{args.answers}, column weight: {error}") from None
    # An empty cell is a row without an answer, not a class of that name.
    labels = np.array([label or None for label in table[column]], dtype=object)
    found = result.certify(
        table["id"].to_numpy(), labels, accuracy=args.accuracy, delta=args.delta, weights=weights
    )
    return {**found.to_dict(), "check_failed": not found.is_certified}


def render(payload: dict[str, Any]) -> str:
    """Say what is promised, or why nothing is."""
    counted = f"{payload['n_labels']} labels"
    if payload["n_set_aside"]:
        counted += f" ({payload['n_set_aside']} more were not counted)"
    if payload["threshold"] is None:
        return f"nothing certified from {counted}: {payload['reason']}"
    sure = 100 * (1 - payload["delta"])
    return (
        f"certified from {counted}: of the {100 * payload['coverage']:.1f} % of rows with "
        f"confidence at or above {payload['threshold']:.4f}, at least "
        f"{100 * payload['accuracy']:g} % are right, with probability {sure:g} %"
    )
