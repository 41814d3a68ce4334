"""``fmcluster encoders``: what can embed here, and what of it needs no network."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

EXAMPLE = "fmcluster encoders --modality text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--modality", choices=("image", "audio", "text"), help="only these")
    parser.add_argument("--at-hand", action="store_true", help="only those that need no network")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """List the encoders; none is loaded, nothing is fetched."""
    from fmcluster.embedding.encoders.catalog import available

    found = [
        dataclasses.asdict(each)
        for each in available()
        if (args.modality in (None, each.modality)) and (each.at_hand or not args.at_hand)
    ]
    return {"encoders": found}


def render(payload: dict[str, Any]) -> str:
    """Print one encoder a line."""
    heads = ("name", "takes", "dim", "MB", "pooling", "license", "at hand", "")
    rows = [heads] + [
        (
            each["name"],
            each["modality"] or "?",
            str(each["dim"] or "?"),
            "?" if each["megabytes"] is None else str(each["megabytes"]),
            each["pooling"] or "-",
            each["license"] or "see its page",
            "yes" if each["at_hand"] else "no",
            each["about"],
        )
        for each in payload["encoders"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    last = "any other Hub id or folder of a vision, audio or text model works, too"
    return "\n".join([*lines, last])
