"""What `update` and `drift` share: new data as it was clustered, and the embeddings of the old."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.cli.options import add_column, add_result, check_there, open_embeddings

IN_CACHE = "those in the cache, if any"
IN_FOLDER = "those in the folder's store/ or in the cache, if any"


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the result, the new data and their column."""
    add_result(parser)
    parser.add_argument("data", help="file, folder, URL, .npy of embeddings, or store")
    add_column(parser)


def add_new_data(parser: argparse.ArgumentParser) -> None:
    """Add the result, the new data and how to read it."""
    add_data(parser)
    parser.add_argument("--encoder", metavar="DIR", help="where the encoder's folder is now")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--device")
    _add_embeddings(parser, IN_CACHE)


def add_own_rows(parser: argparse.ArgumentParser, about: str, *, default: str = IN_CACHE) -> None:
    """Add the rows that a result was made from, raw and embedded."""
    parser.add_argument("--data", help=about)
    add_column(parser)
    parser.add_argument("--id-column", help="column that holds row ids (default: as clustered)")
    _add_embeddings(parser, default)


def _add_embeddings(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--embeddings",
        metavar="STORE",
        help=f"the result's own embeddings, store or .npy (default: {default})",
    )
    parser.add_argument("--cache-dir", help="where stores are kept when no folder is named")


def new_data(args: argparse.Namespace) -> Any:
    """Return the new data as `predict` takes it."""
    check_there(args.data)
    path = Path(args.data)
    is_ready = path.suffix == ".npy" or (path / "manifest.json").is_file()
    return open_embeddings(path) if is_ready else args.data


def rows_of(args: argparse.Namespace, result: Any) -> Any:
    """Return the raw rows of a result from ``--data``, read as they were clustered."""
    from fmcluster.embedding.pairs import open_rows
    from fmcluster.result.predictor import media_of_records

    records = result.provenance.get("encoders") or []
    alike = len({record["spec"].get("modality") for record in records}) == 1
    return open_rows(
        args.data,
        column=args.column,
        id_column=args.id_column or result.provenance.get("id_column"),
        modality=media_of_records(records) if alike else None,
    )


def data_of(folder: str | Path) -> str | None:
    """Return the raw data that lie in the folder of a result, ``data`` or ``data.*``, if any.

    Raises
    ------
    ValueError
        Several do.
    """
    known = (p for p in Path(folder).iterdir() if p.name == "data" or p.stem == "data")
    found = sorted(p for p in known if p.suffix not in (".npy", ".npz"))  # those are embeddings
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} holds several of {names}: say by --data which is the data")
    return str(found[0]) if found else None


def store_of(folder: str | Path) -> str | None:
    """Return the embeddings that lie in the folder of a result, ``store``, as the demo's do."""
    store = Path(folder) / "store"
    return str(store) if (store / "manifest.json").is_file() else None


def opened(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the result and its raw rows, of what was named or lies in its folder; maybe none."""
    from fmcluster.app.incoming import rejoined, source_of

    folder = Path(args.result)
    args.embeddings = args.embeddings or store_of(folder)
    args.data = args.data or data_of(folder)
    result = load_result(args, rejoin=lambda result, own: rejoined(result, own, folder))
    source = rows_of(args, result) if args.data else None
    return result, source_of(result, source, folder)


def load_result(
    args: argparse.Namespace, *, rejoin: Callable[[Any, Any], Any] | None = None
) -> Any:
    """Return the result with its embeddings, where they were given or lie in the cache.

    Parameters
    ----------
    args : Namespace
        With ``result``, ``embeddings`` and ``cache_dir``.
    rejoin : callable, optional
        Gives a result that grew, of the embeddings of its first rows; None where it cannot.
    """
    from fmcluster.embedding.embed import stores_folder
    from fmcluster.embedding.reuse import find_store
    from fmcluster.embedding.store.store import EmbeddingStore
    from fmcluster.result.result import ClusterResult

    result = ClusterResult.load(args.result)

    def whole(embeddings: Any) -> Any:
        grew = result.provenance.get("updates")
        return rejoin(result, embeddings) if rejoin is not None and grew else None

    if args.embeddings:
        if not Path(args.embeddings).exists():
            raise FileNotFoundError(f"{args.embeddings}: no such store or file")
        embeddings = open_embeddings(args.embeddings)
        if len(embeddings) == result.n_rows:
            return result.attach(embeddings)
        joined = whole(embeddings)
        if joined is not None:
            return joined
        raise ValueError(
            f"--embeddings {args.embeddings} has {len(embeddings)} rows, the result "
            f"{result.n_rows}: give those that it was made from"
        )
    fingerprint = result.provenance.get("data")
    folder = find_store(stores_folder(args.cache_dir), fingerprint) if fingerprint else None
    if folder is None:
        return result
    store = EmbeddingStore.open(folder)
    if np.array_equal(store.ids, result.ids):
        return result.attach(store)
    is_first = np.array_equal(store.ids, result.ids[: len(store.ids)])
    joined = whole(store) if is_first else None
    return result if joined is None else joined
