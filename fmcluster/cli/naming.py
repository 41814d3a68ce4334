"""What `cluster` and `report` share: options that say how clusters are named."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


def add_naming(parser: argparse.ArgumentParser) -> None:
    """Add the language of names and who gives them."""
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="of the texts, for the names of clusters: such as de, or en,zh (default: found)",
    )
    parser.add_argument(
        "--namer",
        metavar="MODEL",
        help="have clusters named by this chat model; sends terms and a few texts of each to "
        "--namer-url, with the key in OPENAI_API_KEY",
    )
    parser.add_argument(
        "--namer-url",
        metavar="URL",
        help="OpenAI-compatible endpoint up to /v1 (default: OPENAI_BASE_URL, or OpenAI's)",
    )


def namer_of(args: argparse.Namespace) -> Any:
    """Return the namer that was asked for, None for terms; before any work, as it may be wrong."""
    from fmcluster.result.naming import ChatNamer
    from fmcluster.utils.words import check_languages

    if args.language is not None:
        check_languages(args.language)
    if args.namer is None:
        if args.namer_url is not None:
            raise ValueError("--namer-url is of --namer MODEL, which was not given")
        return None
    return ChatNamer(args.namer, base_url=args.namer_url)


def named(args: argparse.Namespace, result: Any, namer: Any, *, source: Any = None) -> Any:
    """Return the result named as asked; as it is where nothing was.

    Raises
    ------
    ValueError
        There are no texts to name clusters by.
    """
    if args.language is None and namer is None:
        return result
    if source is not None:
        result = dataclasses.replace(result, source=source)
    if result.source is None or result.source.modality != "text":
        raise ValueError(
            "--language and --namer name clusters by texts, and there are none: give the texts "
            "that were clustered (--data)"
        )
    return result.name_clusters(language=args.language or "auto", namer=namer)
