"""Where the folders of local encoders are on this machine: noted in the cache, shared with nobody.

A path tells a user's name and how a disk is laid out. Results, reports and model cards are shown to
others, so they say a local encoder's own name and the digest of its weights. The path belonging to
a digest is kept in the cache of this machine, and whatever is found there is held against the
digest again before it is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmcluster.embedding.encoders.texts.options import NAMES
from fmcluster.utils.files import cache_folder, read_json, stable_hash, write_json

_FILES_OF = ("open_clip:", "timm:")  # ARCH/path/to/checkpoint follows


def shown_name(name: str) -> str:
    """Return an encoder's name without the folders above it, where it is a path.

    >>> shown_name("/home/ann/models/tuned"), shown_name("open_clip:ViT-B-32//home/ann/best.pt")
    ('tuned', 'open_clip:ViT-B-32/best.pt')
    """
    arch, slash, weights = name.partition("/")
    if name.startswith(_FILES_OF) and os.path.isabs(weights):
        return f"{arch}{slash}{Path(weights).name}"
    return Path(name).name if os.path.isabs(name) else name


def shared_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return name, spec and fingerprint of an encoder as others may see them.

    Where a path in the spec leads is noted in this machine's cache.
    """
    spec, name = record["spec"], record["spec"].get("encoder")
    if isinstance(name, str) and shown_name(name) != name:
        remember(record["fingerprint"], name)
        spec = {**spec, "encoder": shown_name(name), "local": True}
    return {**record, "name": shown_name(record["name"]), "spec": spec}


def found_spec(spec: dict[str, Any], fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Return a shared spec with the path that this machine knows for it.

    Raises
    ------
    ValueError
        None is known, or nothing is there any more; or the encoder ran code of its own, which a
        saved result cannot allow on anybody's behalf.
    """
    if spec.get("trust_remote_code"):
        raise ValueError(
            f"encoder {spec['encoder']!r} runs Python code of its own: if you trust it, say so "
            f"again with encoder={{'encoder': {spec['encoder']!r}, 'trust_remote_code': True}}"
        )
    if not spec.get("local"):
        return spec
    name = recall(fingerprint)
    if name is None:
        raise ValueError(
            f"encoder {spec['encoder']!r} is a local one, and where it is on this machine is not "
            "known: say where with encoder=FOLDER (its weights are checked)"
        )
    if not _path_of(name).exists():
        raise ValueError(
            f"encoder {spec['encoder']!r} is no longer at {_path_of(name)}: say where it is now "
            "with encoder=FOLDER (its weights are checked)"
        )
    return {**spec, "encoder": name}


def moved_spec(spec: dict[str, Any], place: Any) -> Any:
    """Return where an encoder is said to be now, with the options that its spec had.

    But for leave to run code: that is given in `place`, anew, or not at all.
    """
    if not isinstance(place, (str, os.PathLike, Mapping)):
        return place
    said = dict(place) if isinstance(place, Mapping) else {"encoder": os.fspath(place)}
    asked = {name: spec[name] for name in (*NAMES, "pooling") if name in spec}
    return {**asked, **said} if asked or len(said) > 1 else place


def remember(fingerprint: dict[str, Any], name: str) -> None:
    """Note where an encoder is; without a cache that can be written, nothing is noted."""
    with contextlib.suppress(OSError):
        note = _note(fingerprint)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {"encoder": name})


def recall(fingerprint: dict[str, Any]) -> str | None:
    """Return where an encoder was when it was last used on this machine."""
    try:
        name = read_json(_note(fingerprint)).get("encoder")
    except (OSError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _path_of(name: str) -> Path:
    return Path(name.partition("/")[2] if name.startswith(_FILES_OF) else name)


def _note(fingerprint: dict[str, Any]) -> Path:
    return cache_folder("encoders") / f"{stable_hash(fingerprint)}.json"
