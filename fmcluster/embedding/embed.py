"""The embedding loop: rows in, a store of whole shards out, resumable, in constant memory.

Each process encodes whole shards of its own and writes them; nothing is gathered. A shard is cut
into blocks of a fixed number of rows, so what is encoded together depends neither on the number of
processes nor on where an earlier run stopped: the bytes come out equal.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fmcluster.embedding.data.audio import AUDIO_RULE
from fmcluster.embedding.data.images import READ_RULE
from fmcluster.embedding.data.source import ON_ERROR, Source
from fmcluster.embedding.encode_shards import EncodingRun
from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.augment import STRENGTHS, augment_fingerprint
from fmcluster.embedding.encoders.base import Encoder
from fmcluster.embedding.encoders.fitted import fit_or_restore
from fmcluster.embedding.encoders.places import shown_name
from fmcluster.embedding.ray_engine import ray_engine
from fmcluster.embedding.reuse import Known, known_rows
from fmcluster.embedding.store.manifest import (
    COMPARED,
    DTYPES,
    MANIFEST,
    Manifest,
    array_key,
    check_same,
    read_manifest,
)
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.embedding.store.writer import finish, folder_of, prepare, reopen
from fmcluster.utils import distributed
from fmcluster.utils.errors import StoreMismatchError
from fmcluster.utils.files import cache_folder, lock, stable_hash
from fmcluster.utils.random import seed_of
from fmcluster.utils.spent import spent
from fmcluster.utils.validation import check_in, check_range

ENGINES = ("local", "ray")
# What an interruption costs: some ten seconds of encoding on two cores; of recordings, a minute.
SHARD_ROWS = {"image": 1024, "audio": 256, "text": 4096}
# How files were read, in a store's settings: one that was read by another rule is not taken up.
READ_RULES = {"image": {"images": READ_RULE}, "audio": {"audio": AUDIO_RULE}}
# 65,536 rows of 768 float16 are 100 MB: still quick to check and to write anew.
MOST_SHARD_ROWS = 65_536
# Above a thousand shards (three files each) opening and listing a folder becomes slow.
MANY_SHARDS = 1024
logger = logging.getLogger(__name__)


def embed_to_store(
    source: Any,
    encoders: Any,
    *,
    folder: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    n_views: int = 0,
    augment: str = "weak",
    dtype: str = "float16",
    shard_rows: int | None = None,
    on_error: str = "raise",
    random_state: int | None = 0,
    repair: bool = False,
    reuse: Any = True,
    engine: str = "local",
    workers: int | None = None,
) -> EmbeddingStore:
    """Embed all rows of `source` and return the store, taking up a store that is there.

    Under ``accelerate launch`` every process calls this with the same arguments and encodes its
    own shards. A second call with the same arguments reads what is there; after any interruption
    it goes on with the first shard that is not whole.

    Parameters
    ----------
    source : Source, or anything `Source` takes
        The rows. Those that are vectors already are taken as they are, without an encoder.
    encoders : Encoder, str, or a list or mapping of these
        One space each. A mapping names the spaces.
    shard_rows : int, optional
        Rows a shard: what an interruption can lose. By default 1,024 images, 256 recordings or
        4,096 texts, more above a million rows. Of a store that is there, its own.
    folder, cache_dir, n_views, augment, dtype, on_error, random_state
        As of `fmcluster.embed`; `random_state` None stands for 0: cached views must be found again.
    repair, reuse, engine, workers
        As of `fmcluster.embed`.

    Raises
    ------
    DataError
        Unreadable rows under ``on_error="raise"``, repeated ids, no rows.
    StoreMismatchError
        `folder` holds a store of other data, encoders or settings.
    CorruptShardError
        The store there is damaged and `repair` is False.
    ValueError
        An encoder gave NaN or infinity, or values beyond float16: row ids are named.
    OSError
        The disk is full; finished shards are kept.
    """
    check_in(dtype, DTYPES, "dtype")
    check_in(on_error, ON_ERROR, "on_error")
    check_in(augment, STRENGTHS, "augment")
    check_in(engine, ENGINES, "engine")
    check_range(n_views, "n_views", low=0)
    if workers is not None:
        check_range(workers, "workers", low=1)
    if shard_rows is not None:
        check_range(shard_rows, "shard_rows", low=1)
    rows = source if isinstance(source, Source) else Source(source)
    if rows.modality == "embedding":
        return _as_given(rows, folder, dtype)
    named = name_spaces(encoders, rows.modality)
    header = {
        "data": {
            "fingerprint": rows.fingerprint,
            "modality": rows.modality,
            "n_rows": rows.n_rows,
        },
        "encoders": [{"name": n, "fingerprint": dict(e.fingerprint)} for n, e in named.items()],
        "settings": {
            "dtype": dtype,
            "on_error": on_error,
            "n_views": int(n_views),
            **READ_RULES.get(rows.modality, {}),
            **_view_settings(rows.modality, n_views, augment, random_state),
        },
        "layout": {"shard_rows": int(shard_rows or default_shard_rows(rows))},
        "info": {"column": rows.column, "specs": [dict(e.spec) for e in named.values()]},
    }
    if folder is not None:
        target = folder_of(folder)
    else:
        target = default_folder(header, cache_dir)
        if any(getattr(encoder, "uncovered", ()) for encoder in named.values()):
            # A folder of its own: nobody can say that what lies there is of this very encoder.
            target = target.with_name(f"{target.name}-{uuid.uuid4().hex}")
    if rows.is_stream and (folder is not None or not repair):
        header, target = _of_stream(
            target, header, rows, cache_dir if folder is None else None, folder is not None
        )
    if repair or not _is_complete(target, header):
        encode = ray_engine(rows, workers=workers) if engine == "ray" else _here
        if reuse is not False and not repair:
            cache = target.parent if folder is None else stores_folder(cache_dir)
            known = known_rows(
                header,
                list(named.values()),
                target=target,
                cache=cache,
                given=() if reuse is True else _folders(reuse),
            )
            encode = functools.partial(encode, known=known)
        _write_store(target, header, rows, list(named.values()), encode, repair=repair)
    return EmbeddingStore.open(target)


def _of_stream(
    target: Path,
    header: dict[str, Any],
    rows: Source,
    cache_dir: str | os.PathLike[str] | None,
    is_named: bool,
) -> tuple[dict[str, Any], Path]:
    """Return the header and folder that are really of this stream's rows.

    A store is found by the first rows of a stream alone. One that is complete is held against all
    of them, which costs reading them and no encoding; where they differ, the stream has a folder
    of its own, named by all its rows.
    """
    if not _is_complete(target, header):
        return header, target
    manifest = read_manifest(target)
    size = manifest.header["layout"]["shard_rows"]
    found = []
    for _, raw in rows.runs(size, itertools.count()):
        run = rows.digesting(raw)
        run.pass_all()
        found += [run.digest] if run.count else []
    stored = [record.content for record in manifest.shards]
    if found == stored:
        return header, target
    if is_named and not any(stored):
        logger.warning("%s was made by a version that cannot tell streams apart", target)
        return header, target
    if is_named:
        raise StoreMismatchError(
            f"the store in {target} was made from a stream with other rows ({len(stored)} shards "
            f"stored, {len(found)} given, their contents differ): use another folder, or delete "
            "this one"
        )
    whole = stable_hash([header["data"]["fingerprint"], found])
    header = {**header, "data": {**header["data"], "fingerprint": whole}}
    return header, default_folder(header, cache_dir)


def _view_settings(
    modality: str, n_views: int, augment: str, random_state: int | None
) -> dict[str, Any]:
    """Return what decides the views' bytes; nothing where there are none."""
    if not n_views:
        return {}
    seed = seed_of(random_state or 0, "views")
    return {"views": augment_fingerprint(modality, strength=augment, seed=seed)}


def name_spaces(encoders: Any, modality: str | None) -> dict[str, Encoder]:
    """Resolve encoders and give each space a name: the encoder's own, or the mapping's key."""
    if isinstance(encoders, dict) and "encoder" not in encoders:
        return {str(key): resolve(value, modality=modality) for key, value in encoders.items()}
    given = encoders if isinstance(encoders, (list, tuple)) else [encoders]
    if not given:
        raise ValueError("no encoder was given: name at least one")
    named: dict[str, Encoder] = {}
    for each in given:
        found = resolve(each, modality=modality)
        base = shown_name(
            str(found.spec.get("encoder") or found.fingerprint.get("encoder") or "embedding")
        )
        name = next(
            n for i in itertools.count(1) if (n := base if i == 1 else f"{base}#{i}") not in named
        )
        named[name] = found
    return named


def default_shard_rows(source: Source) -> int:
    """Choose rows a shard by modality, growing with the data so that files stay few."""
    rows = SHARD_ROWS[source.modality]
    while (
        source.n_rows is not None and rows < MOST_SHARD_ROWS and source.n_rows > rows * MANY_SHARDS
    ):
        rows *= 2
    return rows


def default_folder(header: dict[str, Any], cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder of a store: named by data, encoders and settings, not by layout."""
    return stores_folder(cache_dir) / stable_hash({name: header[name] for name in COMPARED})


def stores_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the cache's stores; nothing is made."""
    return cache_folder("embeddings", cache_dir)


def _folders(given: Any) -> list[Path]:
    """Return the folders of the stores that `reuse` names."""
    each = given if isinstance(given, (list, tuple)) else [given]
    found: list[Any] = [one.folder if isinstance(one, EmbeddingStore) else one for one in each]
    if not all(isinstance(one, (str, os.PathLike)) for one in found):
        raise TypeError(f"reuse={given!r} must be True, False, or folders of stores")
    return [folder_of(one) for one in found]


def _as_given(rows: Source, folder: str | os.PathLike[str] | None, dtype: str) -> EmbeddingStore:
    """Wrap rows that are vectors already; in a folder only where one was asked for."""
    vectors = rows.vectors()
    ids = rows.ids(0, len(vectors))
    store = EmbeddingStore.from_array(vectors, ids)
    return store if folder is None else store.save(folder, dtype=dtype)


def _is_complete(folder: Path, header: dict[str, Any]) -> bool:
    """Return whether the asked store is there, whole; needs no lock."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = read_manifest(folder)
    check_same(folder, manifest.header, header)
    return manifest.complete


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock on the main process for all of them; wait for another job's."""
    if not distributed.is_main():
        yield
        return
    from filelock import Timeout

    path = folder / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, timeout=0.2))
        except Timeout:
            logger.warning("another process writes %s: waiting for it to end", folder)
            stack.enter_context(lock(path))
        yield


def _say_truncated(manifest: Manifest, encoders: list[Encoder]) -> None:
    """Warn once of texts that were cut: what follows the limit has no part in their embedding."""
    rows = sum(record.rows for record in manifest.shards)
    for number, encoder in enumerate(encoders):
        cut = sum(record.truncated.get(array_key(number), 0) for record in manifest.shards)
        if cut:
            logger.warning(
                "%d of %d texts are longer than the %s tokens that %s reads: what follows is not "
                "in their embeddings (store.truncated); ask for long='chunk-mean', or take an "
                "encoder of longer texts", cut, rows, encoder.fingerprint.get("truncation"),
                manifest.space_names[number],
            )  # fmt: skip


def _here(
    folder: Path,
    manifest: Manifest,
    rows: Source,
    encoders: list[Encoder],
    *,
    known: Sequence[Known | None] = (),
) -> int:
    """Encode in this process."""
    with spent("encoding"):
        return EncodingRun(folder, manifest, rows, encoders, known=known).go()


def _write_store(
    folder: Path,
    header: dict[str, Any],
    rows: Source,
    encoders: list[Encoder],
    encode: Callable[..., int],
    *,
    repair: bool,
) -> None:
    """Bring the store in `folder` to completion."""
    with _held(folder):
        if distributed.is_main():
            if repair and ((folder / MANIFEST).exists() or any(folder.glob("shard-*.json"))):
                _, damaged = reopen(folder, header)
                for problem in damaged.values():
                    logger.warning("repairing: %s", problem)
            prepare(folder, header)
            fitted = fit_or_restore(folder, encoders, rows)
        distributed.barrier()
        if not distributed.is_main():
            fitted = fit_or_restore(folder, encoders, rows)
        manifest = read_manifest(folder)
        if manifest.complete:
            return
        n_shards = encode(folder, manifest, rows, fitted)
        distributed.barrier()
        if distributed.is_main():
            _say_truncated(finish(folder, manifest, n_shards), fitted)
        distributed.barrier()
