"""``fmcluster app``: a local page to look, search, label, edit, certify and save a result."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from fmcluster.cli import incoming, options

EXAMPLE = "fmcluster app run/ --data tickets.csv --column text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Opens a page on this machine only. Answers are on the disk (answers.log in the folder of "
        "the result) before they are acknowledged; Save writes the result."
    )
    options.add_result(parser)
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    incoming.add_own_rows(
        parser,
        "the raw data: texts or pictures of the rows (default: `data` or `data.*` in the folder, "
        "if there)",
        default=incoming.IN_FOLDER,
    )
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
    from fmcluster.app.session import Session

    result, source = incoming.opened(args)
    return Session(result, Path(args.result), source=source, encoder=args.encoder)


def render(payload: dict[str, Any]) -> str:
    """Say that it ended."""
    return "stopped; what was answered is in answers.log, what was saved in the result"
