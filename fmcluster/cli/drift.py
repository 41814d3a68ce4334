"""``fmcluster drift``: whether new data has other cluster sizes, or rows unlike anything."""

from __future__ import annotations

import argparse
from typing import Any

from fmcluster.cli import incoming, options

EXAMPLE = "fmcluster drift run/ new.csv --column text --json"
# Lines on a terminal; --json has every cluster.
MOST_SHOWN = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    incoming.add_new_data(parser)
    options.add_on_error(parser, ("raise", "skip"))
    # The usual level: of twenty intervals one may miss; higher makes them wider.
    parser.add_argument(
        "--level", type=float, default=0.95, help="coverage of the intervals (default: 0.95)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read, encode, compare."""
    found = incoming.load_result(args).drift(
        incoming.new_data(args),
        column=args.column,
        encoder=args.encoder,
        on_error=args.on_error,
        level=args.level,
        random_state=args.seed,
        batch_size=args.batch_size,
        device=args.device,
    )
    low, high = found.unlike_interval
    unlike = options.jsonable(
        {
            "unlike_anything": found.unlike_anything,
            "unlike_low": low,
            "unlike_high": high,
            "unlike_p_value": found.unlike_p_value,
        }
    )
    return {
        "p_value": found.p_value,
        **unlike,
        "n_old": found.n_old,
        "n_new": found.n_new,
        "level": found.level,
        "clusters": found.table().to_dict("records"),
    }


def render(payload: dict[str, Any]) -> str:
    """Say what came out."""
    lines = [
        f"{payload['n_new']} new rows against {payload['n_old']}: cluster shares differ with "
        f"p = {payload['p_value']:.4f}"
    ]
    if payload["unlike_anything"] is not None:
        lines.append(
            f"unlike anything: {100 * payload['unlike_anything']:.1f} % "
            f"({100 * payload['unlike_low']:.1f} to {100 * payload['unlike_high']:.1f}, "
            f"p = {payload['unlike_p_value']:.4f})"
        )
    lines.append("cluster        old     new   interval          p (adjusted)  name")
    for each in payload["clusters"][:MOST_SHOWN]:
        lines.append(
            f"{each['cluster']:7d} {100 * each['old_share']:8.2f} {100 * each['new_share']:7.2f}   "
            f"{100 * each['low']:5.2f} to {100 * each['high']:5.2f}   "
            f"{each['p_value']:.4f} ({each['p_adjusted']:.4f})  {each['name']}"
        )
    more = len(payload["clusters"]) - MOST_SHOWN
    if more > 0:
        lines.append(f"and {more} more clusters (all of them with --json)")
    return "\n".join(lines)
