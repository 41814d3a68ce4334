"""Rows that are dropped on the page: kept in the run, then taken in by `ClusterResult.update`.

A batch is a folder ``incoming/<batch>`` of the run: the files as they were dropped in ``rows/``,
and, once they are taken in, ``batch.json``, the ids and the embeddings of the new rows. So a
session can be repeated after a crash, and a result that grew has its texts, pictures and embeddings
when it is opened again; a save carries the folder along.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.media import MEDIA, media_of_row, suffixes_of
from fmcluster.embedding.data.source import Source
from fmcluster.result.loop.joined import JoinedSource
from fmcluster.result.predictor import prepared
from fmcluster.utils.errors import DataError
from fmcluster.utils.files import read_array, read_json, write_array, write_json
from fmcluster.vectors.rows import as_spaces, one_or_list

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

FOLDER, ROWS, ABOUT, IDS = "incoming", "rows", "batch.json", "ids.npy"
TABLES = frozenset((".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet"))
# Files and bytes of one batch: what a person drops on a page; more are for `fmcluster update`.
MOST_FILES, MOST_BYTES = 5_000, 1_000_000_000
_BATCH = re.compile(r"[0-9a-f]{16}")


def why_not(result: ClusterResult) -> str:
    """Return why a result takes no new rows here; empty where it does."""
    records = result.provenance.get("encoders") or []
    if not records:
        return (
            "this run was made from embeddings and has no encoder for new rows: "
            "`fmcluster update run/ new.npy` takes embeddings"
        )
    if len({record["spec"].get("modality") for record in records}) > 1:
        return "this run was made from rows of several parts: `fmcluster update` takes those"
    if result.embeddings is None:
        return "new rows need the run's embeddings beside them: start the app with --embeddings"
    return ""


def suffixes(result: ClusterResult) -> list[str]:
    """Return the endings of files that a result takes."""
    modality = _modality(result)
    return sorted(suffixes_of(modality) if modality in MEDIA else TABLES)


def new_batch(run: Path) -> str:
    """Make a batch and return its name."""
    name = secrets.token_hex(8)
    (_incoming(run) / name / ROWS).mkdir(parents=True)
    return name


def place_of(run: Path, batch: str, name: str, result: ClusterResult) -> Path:
    """Return where a dropped file goes: by its name alone, inside the batch.

    Raises
    ------
    ValueError
        No such batch, a file of another kind than the result takes, a name that is a path, one that
        is there already, or more than a batch holds.
    """
    rows = _folder(run, batch) / ROWS
    known = suffixes(result)
    if Path(name).suffix.lower() not in known:
        raise ValueError(f"{name!r} is no file that this run takes: {', '.join(known)}")
    # A name that a file system takes for something else is no name.
    if (
        re.search(r'[\x00-\x1f<>:"/\\|?*]', name)
        or name.startswith(".")
        # File systems end a name at 255 bytes; some are left for a temporary ending.
        or len(os.fsencode(name)) > 200
    ):
        raise ValueError(f"{name!r} cannot be the name of a file here: rename it")
    there = list(rows.iterdir())
    if (rows / name).exists():
        raise ValueError(f"two files are called {name!r}: rename one")
    if len(there) >= MOST_FILES:
        raise ValueError(f"more than {MOST_FILES} files at once: `fmcluster update` takes a folder")
    return rows / name


def room_left(run: Path, batch: str) -> int:
    """Return how many bytes a batch may still get."""
    return MOST_BYTES - sum(path.stat().st_size for path in (_folder(run, batch) / ROWS).iterdir())


def discard(run: Path, batch: str) -> None:
    """Remove a batch that was not taken in."""
    if not (_folder(run, batch) / ABOUT).is_file():
        shutil.rmtree(_folder(run, batch))


def sweep(run: Path, *, saved: ClusterResult | None = None) -> None:
    """Remove batches that were never taken in; with `saved`, those whose rows it has not instead.

    A batch that waits to be taken in outlives a save, and none outlives the app.
    """
    for folder in _batches(run):
        taken = (folder / ABOUT).is_file()
        if not taken if saved is None else taken and not _are_of(folder, saved):
            shutil.rmtree(folder)


def take(
    result: ClusterResult,
    run: Path,
    batch: str,
    *,
    column: str | None = None,
    id_column: str | None = None,
    new_clusters: str | None = None,
    encoder: Any = None,
) -> tuple[ClusterResult, Source]:
    """Return the result with the rows of a batch, and their source; nothing is kept yet.

    Parameters
    ----------
    column, id_column : str, optional
        Of a table.
    new_clusters : "auto", optional
        As `ClusterResult.update` takes it; rows that cannot be read, or are there, are left out.
    encoder : path, optional
        Where the run's encoder is now, if it was moved.
    """
    reason = why_not(result)
    if reason:
        raise ValueError(reason)
    source = _source(result, _folder(run, batch), column, id_column)
    grown = result.update(
        source,
        new_clusters=new_clusters,
        encoder=encoder,
        on_error="skip",
        on_known="skip",
    )
    return grown, source


def keep(
    run: Path,
    batch: str,
    before: ClusterResult,
    grown: ClusterResult,
    *,
    column: str | None,
    id_column: str | None,
) -> None:
    """Write what opens a result with these rows again: how they were read, ids, embeddings."""
    folder, n = _folder(run, batch), before.n_rows
    write_array(folder / IDS, grown.ids[n:])
    for number, space in enumerate(as_spaces(grown.embeddings)):
        write_array(folder / f"space-{number}.npy", np.asarray(space[n : grown.n_rows], np.float32))
    about = {
        "n_before": n,
        "offset": before.index.n_source,
        "column": column,
        "id_column": id_column,
    }
    write_json(folder / ABOUT, about)


def rows_before(result: ClusterResult, run: Path) -> int:
    """Return how many rows a result had before rows were dropped on it; all, where none were."""
    return min((n for n, _ in _kept(result, run)), default=result.n_rows)


def rejoined(result: ClusterResult, embeddings: Any, run: Path) -> ClusterResult | None:
    """Return a result that grew here with its embeddings; None where not all of its rows are kept.

    Parameters
    ----------
    embeddings : array or store
        Of the rows before any were dropped.
    """
    kept = _kept(result, run)
    n = rows_before(result, run)
    came = sum(len(read_array(folder / IDS)) for _, folder in kept)
    spaces = as_spaces(prepared(result.pipeline, embeddings))
    if not kept or spaces[0].n_rows != n or n + came != result.n_rows:
        return None
    parts: list[list[NDArray[np.float32]]] = [[np.asarray(x[:n], np.float32)] for x in spaces]
    for _, folder in kept:
        for number, part in enumerate(parts):
            part.append(read_array(folder / f"space-{number}.npy"))
    joined = one_or_list([np.concatenate(part) for part in parts])
    return dataclasses.replace(result, embeddings=joined)


def source_of(result: ClusterResult, source: Any, run: Path) -> Any:
    """Return the raw rows of a result that grew here: its own data, then what was dropped."""
    for n, folder in _kept(result, run):
        about = read_json(folder / ABOUT)
        dropped = _source(result, folder, about["column"], about["id_column"], n=n)
        source = joined(source, dropped, result.ids[:n], int(about["offset"]))
    return source


def joined(source: Any, dropped: Source, ids: NDArray[Any], offset: int) -> Any:
    """Return the raw rows of a result, and those dropped after them.

    Parameters
    ----------
    source : Source, sequence or None
        Of the rows before; None stands for none at hand.
    dropped : Source
        The new ones.
    ids : (n,)
        Of the rows before.
    offset : int
        What is added to the new rows' numbers, where nothing names them.
    """
    if source is not None and not hasattr(source, "decode"):
        kind = "text" if isinstance(source[0], str) else media_of_row(source[0])
        names = None if np.array_equal(ids, np.arange(len(ids))) else ids
        source = Source(source, ids=names, modality=kind)
    if source is not None and (source.is_stream or source.modality != dropped.modality):
        return source
    return JoinedSource(source, dropped, offset)


def _source(
    result: ClusterResult,
    folder: Path,
    column: str | None,
    id_column: str | None,
    n: int | None = None,
) -> Source:
    """Return the dropped rows, named as the result's rows are."""
    modality = _modality(result)
    is_files = modality in MEDIA
    paths = sorted((folder / ROWS).iterdir())
    if not paths:
        raise DataError("no file was dropped")
    if not is_files and len(paths) > 1:
        raise DataError(f"{len(paths)} files were dropped: drop one table at a time")
    data: Any = [str(path) for path in paths] if is_files else paths[0]
    wanted = id_column or (None if is_files else _known_column(result, paths[0]))
    if wanted is not None:
        return Source(data, column=column, id_column=wanted, modality=modality)
    source = Source(data, column=column, modality=modality)
    if result.index.are_positions:
        return source
    names: Any = [path.name for path in paths]
    if result.ids.dtype.kind != "U":
        first = int(result.ids[:n].max()) + 1
        names = np.arange(first, first + int(source.n_rows or 0))
    elif not is_files:  # nothing names these rows: the batch does
        names = [f"{folder.name}-{number}" for number in range(int(source.n_rows or 0))]
    return Source(data, column=column, ids=names, modality=modality)


def _known_column(result: ClusterResult, path: Path) -> str | None:
    """Return the column of ids that the result was made with, where the table has it."""
    known = result.provenance.get("id_column")
    if known is None:
        return None
    try:
        Source(path, column=known)
    except (DataError, KeyError):
        return None
    return str(known)


def _modality(result: ClusterResult) -> str:
    return str((result.provenance.get("encoders") or [{"spec": {}}])[0]["spec"].get("modality"))


def _incoming(run: Path) -> Path:
    """Return the folder of dropped rows, which is the run's own: a run may come from anybody.

    Raises
    ------
    ValueError
        It is a link to elsewhere.
    """
    folder = run / FOLDER
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link: dropped rows stay in the run; remove the link")
    return folder


def _folder(run: Path, batch: str) -> Path:
    folder = _incoming(run) / batch
    if not _BATCH.fullmatch(batch) or not folder.is_dir() or folder.is_symlink():
        raise ValueError(f"there is no batch {batch!r} of dropped rows")
    return folder


def _batches(run: Path) -> list[Path]:
    folder = _incoming(run)
    found = [path for path in folder.iterdir() if not path.is_symlink()] if folder.is_dir() else []
    return sorted(path for path in found if path.is_dir() and _BATCH.fullmatch(path.name))


def _are_of(folder: Path, result: ClusterResult) -> bool:
    n = int(read_json(folder / ABOUT)["n_before"])
    ids = read_array(folder / IDS)
    return np.array_equal(ids, result.ids[n : n + len(ids)])


def _kept(result: ClusterResult, run: Path) -> list[tuple[int, Path]]:
    """Return (rows before, folder) of the batches whose rows the result has, in their order."""
    taken = [folder for folder in _batches(run) if (folder / ABOUT).is_file()]
    found = [
        (int(read_json(folder / ABOUT)["n_before"]), folder)
        for folder in taken
        if _are_of(folder, result)
    ]
    return sorted(found)
