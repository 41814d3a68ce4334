"""``fmcluster embed``: raw data into a store; the same command resumes an interrupted one."""

from __future__ import annotations

import argparse
import time
from typing import Any

from fmcluster.cli import options
from fmcluster.utils.spent import recorded

EXAMPLE = "fmcluster embed data.parquet --column text --encoder packaged:minilm --out store/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    options.add_encoder(parser)
    options.add_out(parser, "folder of the store (default: in the cache)")
    parser.add_argument(
        "--repair", action="store_true", help="encode the shards again that are damaged"
    )
    parser.add_argument(
        "--reuse",
        action="append",
        metavar="STORE",
        help="copy the rows that this store holds, too (those in the cache are, anyway); repeat",
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="who runs the encoder"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="Ray actors at most")
    parser.add_argument("--verify", action="store_true", help="read every shard's checksum")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Embed, or find what is embedded."""
    started = time.perf_counter()
    with recorded() as spent:
        store = options.load_data(args, folder=args.out)
    if args.verify:
        store.verify()
    seconds = time.perf_counter() - started
    return {
        "store": None if store.folder is None else str(store.folder),
        "rows": len(store),
        "n_reused": store.n_reused,
        "spaces": {name: store.space(name).shape[1] for name in store.spaces},
        "skipped_ids": store.skipped_ids,
        "bad_ids": store.bad_ids,
        "fingerprint": store.fingerprint,
        "seconds": round(seconds, 3),
        "rows_per_second": round(len(store) / seconds, 1),
        "forward_share": forward_share(spent),
    }


def forward_share(spent: dict[str, float]) -> float | None:
    """Return the share of the encoding's seconds in which the models were at work.

    None where nothing was encoded here, or by an encoder that is no network.
    """
    if not spent.get("forward") or not spent.get("encoding"):
        return None
    return round(min(1.0, spent["forward"] / spent["encoding"]), 3)


def render(payload: dict[str, Any]) -> str:
    """Say what came out."""
    spaces = ", ".join(f"{name} ({d} dimensions)" for name, d in payload["spaces"].items())
    lines = [
        f"{payload['rows']} rows in {spaces}",
        f"{payload['seconds']} s, {payload['rows_per_second']} rows/s",
        f"store: {payload['store'] or 'in memory only (give --out to keep it)'}",
    ]
    if payload["forward_share"] is not None:
        lines[1] += f", {100 * payload['forward_share']:.0f} % of the encoding in the model"
    if payload["n_reused"]:
        lines.append(f"{payload['n_reused']} rows copied from earlier stores, not encoded")
    for key, word in (("skipped_ids", "skipped"), ("bad_ids", "unreadable, kept as zero rows")):
        if payload[key]:
            some = ", ".join(map(str, payload[key][:10]))
            lines.append(f"{len(payload[key])} rows {word}: {some}")
    return "\n".join(lines)
