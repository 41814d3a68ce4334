"""``fmcluster app``: a local page to look, search, label, edit, certify and save a result."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from fmcluster.cli import options

EXAMPLE = "fmcluster app run/ --data tickets.csv --column text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Opens a page on this machine only. Answers are on the disk (answers.log in the folder of "
        "the result) before they are acknowledged; Save writes the result."
    )
    parser.add_argument("result", help="folder that `fmcluster cluster --out` wrote")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.add_argument(
        "--data",
        help="the raw data: texts or pictures of the rows (default: `data` or `data.*` in the "
        "folder, if there)",
    )
    options.add_column(parser)
    parser.add_argument("--id-column", help="column that holds row ids (default: as clustered)")
    parser.add_argument(
        "--embeddings",
        metavar="STORE",
        help="the result's own embeddings, store or .npy (default: those in the folder's store/ "
        "or in the cache, if any)",
    )
    parser.add_argument("--cache-dir", help="where stores are kept when no folder is named")
    parser.add_argument(
        "--encoder", metavar="DIR", help="where the encoder's folder is now, for rows dropped in"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until interrupted."""
    from fmcluster.app.serve import serve
    from fmcluster.cli.main import INTERRUPTED
    from fmcluster.utils.files import to_json

    folder = Path(args.result)
    if not (folder / "result.json").is_file():
        raise FileNotFoundError(f"{args.result} holds no result: there is no result.json in it")
    for given in (args.data, args.embeddings):
        if given and not Path(given).exists():
            raise FileNotFoundError(f"{given}: no such file or folder")

    def say(url: str) -> None:
        text = to_json({"url": url}).replace("\n", "") if args.json else f"open {url}"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    ended = serve(
        folder,
        lambda: _session(args),
        port=args.port,
        open_browser=not args.no_browser,
        say=say,
    )
    if not ended:
        sys.stderr.write("interrupted: what was answered is in answers.log\n")
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    return {"result": str(folder), "stopped": True}


def _session(args: argparse.Namespace) -> Any:
    from fmcluster.app import incoming
    from fmcluster.app.session import Session
    from fmcluster.cli.incoming import data_of, load_result, rows_of, store_of

    args.embeddings = args.embeddings or store_of(args.result)
    args.data = args.data or data_of(args.result)
    folder = Path(args.result)
    result = load_result(args, rejoin=lambda result, own: incoming.rejoined(result, own, folder))
    source = rows_of(args, result) if args.data else None
    source = incoming.source_of(result, source, folder)
    return Session(result, folder, source=source, encoder=args.encoder)


def render(payload: dict[str, Any]) -> str:
    """Say that it ended."""
    return "stopped; what was answered is in answers.log, what was saved in the result"
