"""Folders of images or recordings, of Parquet files, or saved by `Dataset.save_to_disk`."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fmcluster.embedding.data.columns import Reader, open_hf
from fmcluster.embedding.data.files.parquet import files_of_split, open_parquet
from fmcluster.embedding.data.ids import ids_of_paths
from fmcluster.embedding.data.media import kind_of_files, suffixes_of

logger = logging.getLogger(__name__)


def open_folder(
    folder: Path, column: str | None, split: str | None, *, modality: str | None = None
) -> Reader | None:
    """Read a folder; the files of images or recordings below it are the rows, their paths the ids.

    None stands for a folder of none of these.

    Raises
    ------
    DataError
        It holds images and recordings, and `modality` does not say which are meant.
    """
    if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
        import datasets

        return open_hf(datasets.load_from_disk(os.fspath(folder)), column, split, base=folder)
    media, names = list_files(folder, modality)
    if names:
        return reader_of_files(folder, names, media)
    parquet = sorted(folder.glob("*.parquet")) or sorted(folder.glob("*/*.parquet"))
    if parquet:
        chosen = files_of_split(parquet, folder, split)
        return replace(open_parquet(chosen, column), files=tuple(chosen))
    return None


def reader_of_files(folder: Path, names: list[str], media: str) -> Reader:
    """Return a reader of the files of these relative paths below `folder`."""
    return Reader(
        lambda start: iter(Path(name) for name in names[start:]),
        len(names),
        column=media,
        base=folder,
        ids=ids_of_paths(names),
        media=media,
    )


def list_files(folder: Path, modality: str | None = None) -> tuple[str, list[str]]:
    """Return "image" or "audio" and such files below a folder, sorted relative POSIX paths.

    Hidden files are passed over. Linked folders are entered, except one that leads back to a
    folder it lies in. Files of another kind, or of one that the installed packages cannot read,
    are counted in a warning.
    """
    every = [
        (root / name).relative_to(folder).as_posix() for root, ns in _walk(folder) for name in ns
    ]
    media = kind_of_files(folder, every, modality)
    readable = suffixes_of(media)
    found = sorted(name for name in every if Path(name).suffix.lower() in readable)
    others = sorted(set(every) - set(found))
    if found and others:
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in others)
        shown = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
        logger.warning(
            "%d file(s) of %s are left out, as %r: not read as %s here: %s",
            len(others), folder, others[0], media, shown,
        )  # fmt: skip
    return media, found


def _walk(
    folder: Path, above: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders and the names of their files, links followed, loops not."""
    about = folder.stat()
    here = (about.st_dev, about.st_ino)
    if here in above:
        logger.warning("%s is a link back to a folder it lies in: not followed", folder)
        return
    files = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, (*above, here))
        else:
            files.append(entry.name)
    yield folder, files
