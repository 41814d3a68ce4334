"""Where arrays and stores lay when they were clustered, so that a later command finds them.

Kept in the cache of this machine and never in a result, which is shown to others; what lies there
now is held against the fingerprint of what was clustered.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from fmcluster.embedding.embed import stores_folder
from fmcluster.utils.files import read_json, write_json

# Of the command line, what says how a file of vectors was read.
HOW = {"column": "column", "split": "split", "id_column": "id_column", "limit": "n_rows"}


def note_place(args: argparse.Namespace, store: Any) -> None:
    """Note where the data of a command lies, where it is embeddings: raw rows are in the cache."""
    path = Path(args.data)
    if getattr(store, "source", None) is not None or not path.exists():
        return
    how = {name: getattr(args, own) for own, name in HOW.items()}
    with contextlib.suppress(OSError):  # a cache that takes nothing costs only this
        write_json(_note(args, store.fingerprint), {"path": str(path.resolve()), **how})


def noted_embeddings(args: argparse.Namespace, result: Any) -> Any:
    """Return the embeddings that a result was made from; None where they are not there any more."""
    from fmcluster.api import embed
    from fmcluster.embedding.store.store import EmbeddingStore

    fingerprint = result.provenance.get("data")
    note = _note(args, str(fingerprint))
    if not note.is_file():
        return None
    try:
        how = read_json(note)
        path = Path(how.pop("path"))
        is_store = (path / "manifest.json").is_file()
        found = EmbeddingStore.open(path) if is_store else embed(str(path), **how)
    except (OSError, ValueError, TypeError, KeyError):  # moved, or something else by now
        return None
    return found if found.fingerprint == fingerprint else None


def _note(args: argparse.Namespace, fingerprint: str) -> Path:
    return stores_folder(args.cache_dir).parent / "places" / f"{fingerprint}.json"
