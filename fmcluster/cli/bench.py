"""``fmcluster bench``: run a suite's unfinished cells, write its table, hold it to another run."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

EXAMPLE = "fmcluster bench long-tail --data embeddings/ --head kmeans --head auto --seeds 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("suite", help="long-tail, balanced, calibration, images, or list")
    parser.add_argument("--data", metavar="DIR", help="folder of .npz files with x and y")
    parser.add_argument("--dataset", action="append", metavar="NAME", help="only these sets")
    parser.add_argument(
        "--head",
        action="append",
        metavar="SPEC",
        help="a head (name:key=value,...) or peer/NAME; repeat (default: kmeans and all peers)",
    )
    # Two hardly tell how far seeds differ; each more is a whole run.
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0..N-1")
    parser.add_argument("--k", choices=("given", "auto"), default="given")
    parser.add_argument("--no-calibrate", action="store_true", help="keep the heads' own scores")
    parser.add_argument("--encoder", help="for sets from the Hub")
    parser.add_argument("--again", action="store_true", help="run finished cells again")
    parser.add_argument("--out", default="benchmarks/results", metavar="DIR")
    parser.add_argument(
        "--compare", metavar="DIR", help="exit 3 where a mean fell below the one in DIR"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run, tabulate, compare."""
    from fmcluster.bench import datasets
    from fmcluster.bench.cells import Cell, load_records, run_cells
    from fmcluster.bench.methods import PEERS, method
    from fmcluster.bench.tables import compare, markdown
    from fmcluster.utils.files import write_text

    if args.suite == "list":
        return {"suites": datasets.SUITES, "peers": list(PEERS)}
    if args.suite not in datasets.SUITES:
        known = ", ".join(datasets.SUITES)
        raise ValueError(f"suite {args.suite!r} is not known: choose one of {known} (or list)")
    if not args.quiet:
        logging.getLogger("fmcluster.bench").setLevel(logging.INFO)
    methods = [
        method(spec, k=args.k, calibrate=not args.no_calibrate)
        for spec in args.head or ["kmeans", *PEERS]
    ]
    names = args.dataset or datasets.SUITES[args.suite]
    out = Path(args.out)
    counts = run_cells(
        (Cell(args.suite, n, m, s) for n in names for m in methods for s in range(args.seeds)),
        lambda name: datasets.load(name, args.data, encoder=args.encoder),
        out,
        again=args.again,
    )
    records = load_records(out, args.suite)
    table = out / f"{args.suite}.md"
    write_text(table, markdown(records))
    worse = compare(records, load_records(Path(args.compare), args.suite)) if args.compare else []
    return {**counts, "table": str(table), "worse": worse, "check_failed": bool(worse)}


def render(payload: dict[str, Any]) -> str:
    """Say what ran and what got worse."""
    if "suites" in payload:
        lines = [f"{name}: {', '.join(sets)}" for name, sets in payload["suites"].items()]
        return "\n".join([*lines, f"peers: {', '.join(payload['peers'])}"])
    lines = [
        f"{payload['ran']} cells ran, {payload['skipped']} were finished, "
        f"{payload['failed']} failed; table: {payload['table']}"
    ]
    lines += [
        f"worse: {w['dataset']} {w['method']} {w['metric']} {w['before']} -> {w['after']}"
        for w in payload["worse"]
    ]
    return "\n".join(lines)
